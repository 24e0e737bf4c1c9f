"""A model's vocabulary as bytes, from its tokenizer file, for llguidance. Needs no tokenizer: only what tokens spell.

llguidance can read tokenizer.json itself, but builds a whole tokenizer for it, merges included, and holds the
interpreter's lock all the while: this way it is held a third as long.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
from llguidance import LLTokenizer

from kvik.errors import ModelFileError
from kvik.modelfile.gguf import GgufArray, is_gguf, read_gguf_header

_SPACE = "\u2581"
"""How SentencePiece spells a space."""
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_GGUF_SPECIAL = (2, 3)
"""Values of tokenizer.ggml.token_type: unknown and control tokens."""
_GGUF_LITERAL = 4
_GGUF_BYTE = 6


class TokenBytes:
    """What `LLTokenizer` asks of a tokenizer: the bytes of each token. The last one is an end that no model has.

    Ends are set into the masks by `Constraint`, since a request's own differ.
    """

    is_tokenizer_wrapper = True
    bos_token_id: int | None = None

    def __init__(self, tokens: Sequence[bytes], special_token_ids: Sequence[int]) -> None:
        self.tokens = tokens
        self.special_token_ids = special_token_ids
        self.eos_token_id = len(tokens) - 1

    def __call__(self, text: bytes | str) -> list[int]:
        """Longest tokens first. For grammars that ask to force tokens; ours let the model choose (`HEADER`)."""
        rest = text.encode() if isinstance(text, str) else bytes(text)
        ids: list[int] = []
        while rest:
            ends = range(min(len(rest), self._longest), 0, -1)
            best = next((end for end in ends if rest[:end] in self._ids), 0)
            if best == 0:
                return ids
            ids.append(self._ids[rest[:best]])
            rest = rest[best:]
        return ids

    @cached_property
    def _ids(self) -> dict[bytes, int]:
        special = set(self.special_token_ids)
        return {token: token_id for token_id, token in enumerate(self.tokens) if token and token_id not in special}

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self._ids), default=0)


def load_vocabulary(path: str | Path, vocab_size: int, ending_ids: Iterable[int] = ()) -> LLTokenizer:
    """Of a Hugging Face folder or a .gguf file. Ids are 0 to vocab_size - 1, and `vocab_size` is the end.

    `ending_ids` are never text, whatever the file says of them.

    Holds the interpreter's lock for 0.1 s with 49k tokens. Raises `ModelFileError`.
    """
    place = Path(path)
    tokens, special = _from_gguf(place) if place.suffix == ".gguf" or is_gguf(place) else _from_folder(place)
    padded = [*tokens[:vocab_size], *[b""] * (vocab_size - len(tokens)), b"<end>"]
    ids = sorted({i for i in (*special, *ending_ids) if i < vocab_size})
    return LLTokenizer(TokenBytes(padded, [*ids, vocab_size]), n_vocab=vocab_size + 1)  # type: ignore[arg-type]


def _from_folder(folder: Path) -> tuple[list[bytes], list[int]]:
    path = folder / "tokenizer.json"
    try:
        content = msgspec.json.decode(path.read_bytes())
        words = _words(content["model"]["vocab"])
        added = {entry["id"]: entry for entry in content.get("added_tokens") or []}
    except (OSError, msgspec.DecodeError, KeyError, TypeError, AttributeError) as error:
        raise ModelFileError(f"{path} has no vocabulary that can be read: {error!r}") from error
    spell = byte_level if "ByteLevel" in _types(content.get("decoder")) else sentencepiece
    tokens = [b""] * (max([*words.values(), *added], default=-1) + 1)
    for word, token_id in words.items():
        tokens[token_id] = spell(word)
    for token_id, entry in added.items():
        tokens[token_id] = entry["content"].encode()
    return tokens, [token_id for token_id, entry in added.items() if entry.get("special")]


def _words(vocab: Any) -> dict[str, int]:
    """BPE has an object, Unigram a list of pairs of a token and its score."""
    if isinstance(vocab, dict):
        return vocab
    return {word: token_id for token_id, (word, _) in enumerate(vocab)}


def _types(decoder: Any) -> set[str]:
    if not isinstance(decoder, dict):
        return set()
    return {decoder.get("type", "")}.union(*(_types(part) for part in decoder.get("decoders", ())))


def _from_gguf(path: Path) -> tuple[list[bytes], list[int]]:
    metadata = read_gguf_header(path).metadata
    words, types = metadata.get("tokenizer.ggml.tokens"), metadata.get("tokenizer.ggml.token_type")
    if not isinstance(words, GgufArray):
        raise ModelFileError(f"{path}: tokenizer.ggml.tokens is missing")
    kinds = types.values if isinstance(types, GgufArray) else [1] * words.count
    spell = byte_level if metadata.get("tokenizer.ggml.model") == "gpt2" else sentencepiece
    tokens = [
        word.encode() if kind in _GGUF_SPECIAL else word.replace(_SPACE, " ").encode() if kind == _GGUF_LITERAL
        else spell(word)
        for word, kind in zip(words.values, kinds, strict=True)
    ]  # fmt: skip
    return tokens, [token_id for token_id, kind in enumerate(kinds) if kind in _GGUF_SPECIAL]


def sentencepiece(word: str) -> bytes:
    """<0x0A> is a byte, and a low line of its own is a space."""
    if (byte := _BYTE.fullmatch(word)) is not None:
        return bytes([int(byte[1], 16)])
    return word.replace(_SPACE, " ").encode()


def byte_level(word: str) -> bytes:
    """Byte-level BPE writes each byte as a printable character (Radford et al., 2019); others stand for themselves."""
    return word.translate(_LATIN).encode("latin-1") if _LEVEL.fullmatch(word) else word.encode()


def _byte_characters() -> dict[int, int]:
    """Character -> byte: printable ones of Latin-1 are themselves, the rest comes from 256 on, in their order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: byte for byte in printable} | {256 + i: byte for i, byte in enumerate(others)}


_LATIN = _byte_characters()
_LEVEL = re.compile("[" + re.escape("".join(map(chr, _LATIN))) + "]*")
