"""Broken tokenizers: a ModelFileError, or a tokenizer that encodes and decodes."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from kvik.errors import InvalidRequestError, ModelFileError
from kvik.text import tokenizer as kvik_tokenizer
from support.fuzzing import LONG_RUNS, SHORT_RUNS, Bytes, Texts, fuzz
from support.gguf_files import write_gguf

TOKENS = ["<unk>", "<s>", "</s>", "a", "b", "ab", "\u2581", "\u2581ab", "\u00e9", "<0x41>"]
TYPES = [2, 3, 3, 1, 1, 1, 1, 1, 1, 6]
TEXT = "ab <s>b \u00e9\U0001f600  12"


def metadata(kind: str, **changes: Any) -> dict[str, Any]:
    keys = {
        "model": kind, "pre": "llama-bpe" if kind == "gpt2" else "default", "tokens": TOKENS, "token_type": TYPES,
        "scores": [-1.0 * i for i in range(len(TOKENS))], "merges": ["a b"] if kind == "gpt2" else None,
        "bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0, "add_bos_token": True, "add_eos_token": True,
    } | changes  # fmt: skip
    return {"general.architecture": "llama", **{f"tokenizer.ggml.{key}": value for key, value in keys.items()}}


def gguf_seeds(tmp_path: Path) -> list[bytes]:
    kinds = [metadata("gpt2"), metadata("llama"), metadata("llama", add_space_prefix=False), metadata("gpt2", pre="x")]
    kinds.append(metadata("llama") | {"general.architecture": "gemma3", "tokenizer.chat_template": "{{ x }}"})
    return [write_gguf(tmp_path / "seed.gguf", keys, {}).read_bytes() for keys in kinds]


def use(tokenizer: kvik_tokenizer.Tokenizer) -> None:
    """What a server does with it: nothing of it may fail, but that a text may have no tokens."""
    try:
        ids = tokenizer.encode(TEXT)
    except InvalidRequestError:
        ids = []
    for skip in (True, False):
        assert isinstance(tokenizer.decode([*ids, 0, 10**6], skip_special_tokens=skip), str)
    assert all(tokenizer.has_id(token_id) for token_id in ids)
    assert tokenizer.vocab_size >= len(tokenizer.special_token_ids)
    assert len(tokenizer.special_tokens) <= len(tokenizer.special_token_ids)
    assert tokenizer.max_chars_per_token >= 0


def of_gguf(tmp_path: Path, num_runs: int) -> str:
    inputs, path = Bytes(gguf_seeds(tmp_path), random.Random(8)), tmp_path / "broken.gguf"

    def read() -> None:
        path.unlink(missing_ok=True)
        path.write_bytes(inputs.next())
        use(kvik_tokenizer.Tokenizer.load(path))

    return fuzz(read, num_runs, (ModelFileError,))


def folder_seeds() -> dict[str, list[str]]:
    """Small files of each kind that a folder has."""
    backend = Tokenizer(models.BPE({t: i for i, t in enumerate(TOKENS[3:6])}, [("a", "b")], byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken("<s>", normalized=False), AddedToken("</s>", normalized=False)])
    words = Tokenizer(models.WordPiece({"[UNK]": 0, "ab": 1, "##b": 2}, unk_token="[UNK]"))
    unigram = Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0), ("b", -2.0)], 0, False))
    unigram.enable_truncation(4)
    unigram.enable_padding()
    level = Tokenizer(models.WordLevel({"<unk>": 0, "ab": 1}, unk_token="<unk>"))
    config = {"bos_token": "<s>", "eos_token": {"content": "</s>", "special": True}, "add_bos_token": True,
              "chat_template": "{{ x }}"}  # fmt: skip
    named = {"bos_token": "<s>", "chat_template": [{"name": "default", "template": "{{ x }}"}]}
    return {
        "tokenizer.json": [b.to_str() for b in (backend, words, unigram, level)],
        "tokenizer_config.json": [json.dumps(config), json.dumps(named)],
        "special_tokens_map.json": [json.dumps({"eos_token": "</s>"})],
        "chat_template.json": [json.dumps({"chat_template": "{{ x }}"})],
    }


def of_folder(tmp_path: Path, num_runs: int) -> str:
    rng, seeds = random.Random(9), folder_seeds()
    pieces = (
        "null",
        "[]",
        "{}",
        "-1",
        "1e999",
        "4294967296",
        '"type":"ByteLevel",',
        '"vocab":{},',
        "\\ud800",
        "[" * 99,
    )
    inputs = {name: Texts(texts, rng, pieces) for name, texts in seeds.items()}

    def read() -> None:
        broken = rng.choice(("tokenizer.json", "tokenizer.json", "tokenizer.json", *inputs))
        for name, texts in seeds.items():
            text = inputs[name].next() if name == broken else texts[0]
            (tmp_path / name).write_bytes(text.encode(errors="surrogatepass"))
        use(kvik_tokenizer.Tokenizer.load(tmp_path))

    return fuzz(read, num_runs, (ModelFileError,))


KINDS = {"gguf": of_gguf, "folder": of_folder}


@pytest.mark.parametrize("kind", KINDS)
def test_some_broken_tokenizers(kind: str, tmp_path: Path) -> None:
    KINDS[kind](tmp_path, SHORT_RUNS)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
def test_many_broken_tokenizers(kind: str, tmp_path: Path) -> None:
    print(f"tokenizers, {kind}: {KINDS[kind](tmp_path, LONG_RUNS)}")
