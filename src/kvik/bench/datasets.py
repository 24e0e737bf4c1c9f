"""Prompts made from a seed: random words, and prefixes that several prompts share. Same seed, same prompts.

Token ids are drawn among tokens that begin a word, since these survive a round trip through text: a prompt sent as
text has then the length that was asked for. Knows no server.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from kvik.errors import ConfigError

MAX_RETOKENISATIONS = 10
MAX_DRAWS = 100_000


@dataclass(frozen=True)
class Prompt:
    """One request of a dataset."""

    text: str
    num_tokens: int
    """Of the text, as the tokenizer counts them; without what the server adds."""
    output_len: int
    """Tokens to generate, at most."""
    token_ids: tuple[int, ...] = ()
    """The same prompt as ids; its length may differ from `num_tokens` where text cannot express it."""


class TextCoder(Protocol):
    """What is needed of a tokenizer; `kvik.text.tokenizer.Tokenizer` is one."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def special_token_ids(self) -> frozenset[int]: ...

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]: ...

    def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str: ...


class WordSource:
    """An endless, seeded stream of token ids that begin a word and stay one token when their text is read again."""

    def __init__(self, tokenizer: TextCoder, seed: int) -> None:
        self.random = random.Random(seed)
        self._tokenizer = tokenizer
        self._is_word: dict[int, bool] = {}

    def draw(self, count: int) -> list[int]:
        """`count` ids. Raises `ConfigError` where the vocabulary has hardly any such token."""
        ids: list[int] = []
        for _ in range(MAX_DRAWS + 200 * count):
            if len(ids) == count:
                return ids
            token_id = self.random.randrange(self._tokenizer.vocab_size)
            if token_id not in self._is_word:
                self._is_word[token_id] = self._survives(token_id)
            if self._is_word[token_id]:
                ids.append(token_id)
        if len(ids) == count:
            return ids
        raise ConfigError("this tokenizer has no tokens that begin a word; give prompts of your own: --dataset-name")

    def prompt(self, token_ids: list[int], output_len: int) -> Prompt:
        """The ids with a text of as many tokens, as near as a few attempts come to it."""
        text, counted, wanted = self._tokenizer.decode(token_ids), 0, len(token_ids)
        for _ in range(MAX_RETOKENISATIONS):
            ids = self._tokenizer.encode(text, add_special_tokens=False)
            counted = len(ids)
            if counted == wanted:
                break
            ids = ids[:wanted] if counted > wanted else ids + self.draw(wanted - counted)
            text = self._tokenizer.decode(ids)
        return Prompt(text, counted, output_len, tuple(token_ids))

    def _survives(self, token_id: int) -> bool:
        if token_id in self._tokenizer.special_token_ids:
            return False
        # Between two others, as tokenizers may treat the beginning of a text in a way of its own.
        text = self._tokenizer.decode([token_id] * 3)
        words = text.split()
        is_word = len(words) == 3 and len(set(words)) == 1 and words[0].isalnum()
        return is_word and self._tokenizer.encode(text, add_special_tokens=False)[-2:] == [token_id] * 2


@dataclass(frozen=True)
class RandomLengths:
    """Lengths of random prompts, tokens."""

    input_len: int = 1024
    output_len: int = 128
    range_ratio: float = 0.0
    """Lengths are drawn evenly from [length * (1 - ratio), length * (1 + ratio)]."""
    prefix_len: int = 0
    """Tokens before those `input_len`, the same for all prompts."""


def random_prompts(tokenizer: TextCoder, num_prompts: int, lengths: RandomLengths, seed: int) -> list[Prompt]:
    """Raises `ConfigError` for lengths that cannot be."""
    if not 0 <= lengths.range_ratio < 1:
        raise ConfigError(f"--random-range-ratio must be from 0 up to, not including, 1; got {lengths.range_ratio}")
    _check_lengths("--random-input-len", lengths.input_len, "--random-output-len", lengths.output_len)
    if lengths.prefix_len < 0:
        raise ConfigError(f"--random-prefix-len must not be negative, got {lengths.prefix_len}")
    words = WordSource(tokenizer, seed)
    prefix = words.draw(lengths.prefix_len)
    return [_random_prompt(words, prefix, lengths) for _ in range(num_prompts)]


def _random_prompt(words: WordSource, prefix: list[int], lengths: RandomLengths) -> Prompt:
    input_len = _length(words.random, lengths.input_len, lengths.range_ratio)
    output_len = _length(words.random, lengths.output_len, lengths.range_ratio)
    return words.prompt(prefix + words.draw(input_len), output_len)


def _length(draw: random.Random, length: int, range_ratio: float) -> int:
    low = max(1, math.floor(length * (1 - range_ratio)))
    return draw.randint(low, max(low, math.ceil(length * (1 + range_ratio))))


@dataclass(frozen=True)
class Prefixes:
    """Lengths of prompts that share prefixes, tokens."""

    prefix_len: int = 256
    suffix_len: int = 256
    num_prefixes: int = 10
    output_len: int = 128


def prefix_prompts(tokenizer: TextCoder, num_prompts: int, lengths: Prefixes, seed: int, shuffle: bool) -> list[Prompt]:
    """As many prompts for each prefix, the first ones one more where it does not divide.

    Raises `ConfigError` for more prefixes than prompts.
    """
    if not 1 <= lengths.num_prefixes <= num_prompts:
        raise ConfigError(
            f"--prefix-repetition-num-prefixes must be 1 to --num-prompts {num_prompts}, got {lengths.num_prefixes}"
        )
    _check_lengths("--prefix-repetition-prefix-len", lengths.prefix_len,
                   "--prefix-repetition-output-len", lengths.output_len)  # fmt: skip
    words = WordSource(tokenizer, seed)
    prefixes = [words.draw(lengths.prefix_len) for _ in range(lengths.num_prefixes)]
    counts = [len(range(i, num_prompts, lengths.num_prefixes)) for i in range(lengths.num_prefixes)]
    prompts = [
        words.prompt(prefix + words.draw(lengths.suffix_len), lengths.output_len)
        for prefix, count in zip(prefixes, counts, strict=True)
        for _ in range(count)
    ]
    if shuffle:
        words.random.shuffle(prompts)
    return prompts


def _check_lengths(*names_and_lengths: str | int) -> None:
    pairs: Sequence[tuple[str | int, str | int]] = list(
        zip(names_and_lengths[::2], names_and_lengths[1::2], strict=True)
    )
    for name, length in pairs:
        if isinstance(length, int) and length < 1:
            raise ConfigError(f"{name} must be at least 1, got {length}")
