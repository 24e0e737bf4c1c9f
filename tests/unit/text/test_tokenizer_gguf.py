"""Tokenizers rebuilt from GGUF metadata, against trained originals and against transformers' reading of the files."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer

from kvik.errors import ConfigError, ModelFileError
from kvik.modelfile import embedded_model_path
from kvik.text.tokenizer import Tokenizer
from kvik.text.tokenizer_gguf import recover_merges
from kvik.text.tokenizer_splits import SPLITS
from support.gguf_files import write_gguf

CORPUS = ["the quick brown fox, the lazy dog's tail", "def f(x):\n    return x ** 2\n\n", "héllo wörld 12 345 😀"] * 9
PIECES = ["the", " ", "   ", "12", "3", "'s", "\n", "é", "e\u0301", "<|eos|>", "😀", "<t>", "x"]
TEXTS = st.one_of(
    st.text(max_size=60),
    st.lists(
        st.sampled_from(["the", " ", "   ", "12", "3", "'s", "\n", "é", "e\u0301", "<|eos|>", "😀", "<t>", "x"])
    ).map("".join),
)
SPACE = "\u2581"
QUIET = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)


@cache
def byte_level_original(pre: str) -> tokenizers.Tokenizer:
    """A small tokenizer of the way of cutting called `pre`, trained here."""
    backend = tokenizers.Tokenizer(models.BPE())
    words = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*"
    words += r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False)
    unsplit = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    if pre == "smollm":
        backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), plain])
    elif pre in ("llama-bpe", "qwen2"):
        pattern = Regex(words.replace("DIGITS", "{1,3}" if pre == "llama-bpe" else ""))
        backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(pattern, "isolated"), unsplit])
    else:
        backend.pre_tokenizer = plain
    if pre == "qwen2":
        backend.normalizer = normalizers.NFC()
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(CORPUS, trainer)
    backend.add_special_tokens([AddedToken("<|eos|>", normalized=False, special=True)])
    backend.add_tokens([AddedToken("<t>", normalized=False, special=False)])
    return backend


def byte_level_metadata(pre: str | None, **changes: Any) -> dict[str, Any]:
    original = byte_level_original(pre or "gpt-2")
    vocabulary = sorted(original.get_vocab().items(), key=lambda item: item[1])
    types = {"<|eos|>": 3, "<t>": 4}
    merges = [" ".join(pair) for pair in json.loads(original.to_str())["model"]["merges"]]
    keys = {
        "model": "gpt2",
        "pre": pre,
        "tokens": [token for token, _ in vocabulary],
        "token_type": [types.get(token, 1) for token, _ in vocabulary],
        "merges": merges,
        "eos_token_id": original.token_to_id("<|eos|>"),
        "bos_token_id": original.token_to_id("<|eos|>"),
    } | changes
    return {"general.architecture": "llama", **{f"tokenizer.ggml.{key}": value for key, value in keys.items()}}


def sentencepiece_metadata(architecture: str, **changes: Any) -> dict[str, Any]:
    """A little vocabulary: control tokens, bytes, characters, and what merges to words, better ones first."""
    special = ["<unk>", "<s>", "</s>", "<pad>", "<mask>", "<bos>", "<eos>", "<h1>"]
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    runs = [" " * n for n in (2, 3, 4)] if architecture == "gemma3" else [SPACE * n for n in (2, 3, 4)]
    words = ["he", "ll", f"{SPACE}w", "hell", "or", "hello", f"{SPACE}wor", "ld", f"{SPACE}world", "ee", "ell", "ello"]
    characters = [SPACE, *"abcdefghijklmnopqrstuvwxyz0123456789\n.,'!<>/"]
    tokens = [*special, *byte_tokens, *runs, *words, *characters]
    types = (
        [3] * 7 + [4] + [6] * 256 + [4 if architecture == "gemma3" else 1] * 3 + [1] * (len(words) + len(characters))
    )
    keys = {
        "model": "llama",
        "pre": "default",
        "tokens": tokens,
        "scores": [0.0 if index < 264 else -1.0 * index for index in range(len(tokens))],
        "token_type": types,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "unknown_token_id": 0,
    } | changes
    return {"general.architecture": architecture, **{f"tokenizer.ggml.{key}": value for key, value in keys.items()}}


def load(tmp_path: Path, metadata: dict[str, Any]) -> Tokenizer:
    return Tokenizer.load(write_gguf(tmp_path / "t.gguf", metadata, {}))


@pytest.mark.parametrize("pre", ["gpt-2", "default", "smollm", "llama-bpe", "qwen2"])
def test_byte_level_agrees_with_the_original(tmp_path: Path, pre: str) -> None:
    original = byte_level_original(pre)
    ours = load(tmp_path, byte_level_metadata(pre, add_bos_token=False))

    @QUIET
    @given(text=TEXTS)
    def agrees(text: str) -> None:
        with suppress(UnicodeEncodeError):
            text.encode()
            ids = original.encode(text).ids
            assert ours.encode(text) == ids
            assert ours.decode(ids) == original.decode(ids)
            assert ours.decode(ids, skip_special_tokens=False) == original.decode(ids, skip_special_tokens=False)

    agrees()


@pytest.mark.parametrize(
    ("architecture", "changes"),
    [("llama", {}), ("llama", {"add_bos_token": False}), ("gemma3", {"add_space_prefix": False})],
)
def test_sentencepiece_agrees_with_transformers(tmp_path: Path, architecture: str, changes: dict[str, Any]) -> None:
    ours = load(tmp_path, sentencepiece_metadata(architecture, **changes))
    truth = AutoTokenizer.from_pretrained(tmp_path, gguf_file="t.gguf")
    pieces = ["hello", " ", "world", "  ", "    ", "<s>", "<h1>", "é", "😀", "\n", "h", "ello", "ee", "w", "1"]

    @QUIET
    @given(text=st.one_of(st.lists(st.sampled_from(pieces)).map("".join), st.text("helo wrd\n", max_size=30)))
    def agrees(text: str) -> None:
        ids = ours.encode(text)
        assert ids == truth(text)["input_ids"]
        assert ours.decode(ids) == truth.decode(ids, skip_special_tokens=True)

    agrees()


def test_no_space_is_put_before_a_text_where_the_file_says_so(tmp_path: Path) -> None:
    with_space = load(tmp_path, sentencepiece_metadata("llama"))
    without = load(tmp_path, sentencepiece_metadata("llama", add_space_prefix=False))
    assert without.encode("hello world", False) == with_space.encode("hello world", False)[1:]
    for text in ("hello", " hello", "  h"):
        assert without.decode(without.encode(text)) == text
    assert with_space.decode(with_space.encode("hello")) == "hello"


def test_llama3_s_whole_words_need_no_merges(tmp_path: Path) -> None:
    metadata = byte_level_metadata("llama-bpe")
    for key, value in (("tokens", "Ġdoggo"), ("token_type", 1)):
        metadata[f"tokenizer.ggml.{key}"] = [*metadata[f"tokenizer.ggml.{key}"], value]
    ours = load(tmp_path, metadata)
    assert ours.encode(" doggo", add_special_tokens=False) == [ours.vocab_size - 1]


@pytest.mark.parametrize(("pre", "adds"), [("llama-bpe", True), ("tekken", True), ("gpt-2", False), ("qwen2", False)])
def test_bos_by_default_and_by_flag(tmp_path: Path, pre: str, adds: bool) -> None:
    def first(**flags: bool) -> list[int]:
        metadata = byte_level_metadata("gpt-2") | {"tokenizer.ggml.pre": pre}
        return load(tmp_path, metadata | {f"tokenizer.ggml.{key}": value for key, value in flags.items()}).encode("")

    eos = byte_level_original("gpt-2").token_to_id("<|eos|>")
    assert first() == ([eos] if adds else [])
    assert first(add_bos_token=not adds) == ([] if adds else [eos])
    assert first(add_bos_token=True, add_eos_token=True) == [eos, eos]
    assert first(add_bos_token=False, add_eos_token=True) == [eos]


@pytest.mark.parametrize("pre", ["viking", None])
def test_an_unknown_way_of_cutting_is_warned_of(
    tmp_path: Path, pre: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    ours = load(tmp_path, byte_level_metadata("gpt-2") | {"tokenizer.ggml.pre": pre})
    assert "which is not known; text is cut as for GPT-2" in caplog.text
    assert ours.encode("the fox") == byte_level_original("gpt-2").encode("the fox").ids


def test_what_it_knows(tmp_path: Path) -> None:
    templates = {"tokenizer.chat_template": "{{ m }}", "tokenizer.chat_template.tool_use": "{{ t }}"}
    ours = load(tmp_path, byte_level_metadata("smollm") | templates)
    assert ours.tool_chat_template == "{{ t }}"
    eos = byte_level_original("smollm").token_to_id("<|eos|>")
    assert (ours.eos_token, ours.eos_token_id, ours.chat_template) == ("<|eos|>", eos, "{{ m }}")
    assert ours.special_token_ids == {eos}
    assert ours.vocab_size == byte_level_original("smollm").get_vocab_size()


def test_of_tokens_spelled_alike_the_first_is_meant(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    metadata = sentencepiece_metadata("llama")
    tokens = metadata["tokenizer.ggml.tokens"]
    tokens[-1] = "h"
    ours = load(tmp_path, metadata)
    assert ours.encode("h", add_special_tokens=False)[-1] == tokens.index("h")
    assert not ours.has_id(len(tokens) - 1)
    assert "1 tokens repeat others" in caplog.text


def test_merges_are_ordered_by_score_then_by_the_length_of_the_left_part() -> None:
    tokens = ["a", "b", "ab", "aab", "aa"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    by_position = [("a", "b"), ("aa", "b"), ("a", "ab"), ("a", "a")]
    assert recover_merges(tokens, vocabulary, None) == by_position
    assert recover_merges(tokens, vocabulary, [0, 0, -3.0, -2.0, -1.0]) == [
        ("a", "a"), ("aa", "b"), ("a", "ab"), ("a", "b"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"model": None}, "'tokenizer.ggml.model' is missing"),
        ({"model": "t5"}, "'tokenizer.ggml.model' is 't5'; supported are 'gpt2' and 'llama'"),
        ({"tokens": None}, "'tokenizer.ggml.tokens' is missing"),
        ({"tokens": 3}, "'tokenizer.ggml.tokens' must be a list"),
        ({"tokens": [1, 2]}, "must be a list of strings"),
        ({"token_type": [1]}, "'tokenizer.ggml.token_type' has 1 entries for"),
        ({"merges": None}, "'tokenizer.ggml.merges' is missing"),
        ({"merges": ["ab"]}, "must be pairs of tokens"),
        ({"merges": ["a nosuchtoken"]}, "the tokenizer cannot be built"),
        ({"eos_token_id": 10**6}, "'tokenizer.ggml.eos_token_id' is 1000000, outside"),
        ({"add_bos_token": 1}, "'tokenizer.ggml.add_bos_token' is 1; it must be true or false"),
    ],
)
def test_what_makes_no_sense_is_named(tmp_path: Path, changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ModelFileError, match=complaint):
        load(tmp_path, byte_level_metadata("gpt-2", **changes))


def test_scores_that_are_missing_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"'tokenizer\.ggml\.scores' is missing"):
        load(tmp_path, sentencepiece_metadata("llama", scores=None))


def test_every_known_way_of_cutting_loses_nothing() -> None:
    text = "Hello  world's 1234 ÄÖ\n\n\t x😀 "
    for split in SPLITS.values():
        pieces = [piece for piece, _ in split.pre_tokenizer().pre_tokenize_str(text)]
        assert decoders.ByteLevel().decode(pieces) == text


@pytest.fixture(scope="module")
def embedded() -> Path:
    try:
        return embedded_model_path()
    except ConfigError as error:
        pytest.skip(str(error))


def test_the_embedded_model_cuts_digits_apart(embedded: Path) -> None:
    ours = Tokenizer.load(embedded)
    assert [ours.id_to_token(i) for i in ours.encode("a   12")] == ["a", "ĠĠĠ", "1", "2"]
    assert ours.encode("<|im_start|>user\n") == [1, 4093, 198]


@pytest.mark.slow
def test_the_embedded_model_agrees_with_transformers(embedded: Path) -> None:
    ours = Tokenizer.load(embedded)
    truth = AutoTokenizer.from_pretrained(embedded.parent, gguf_file=embedded.name).backend_tokenizer
    # transformers leaves out what "smollm" adds to GPT-2's way of cutting.
    digits = pre_tokenizers.Digits(individual_digits=True)
    truth.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])

    @QUIET
    @given(text=TEXTS)
    def agrees(text: str) -> None:
        with suppress(UnicodeEncodeError):
            text.encode()
            assert ours.encode(text) == truth.encode(text).ids

    agrees()
