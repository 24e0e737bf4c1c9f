"""Words that must not appear, as token sequences."""

from __future__ import annotations

from collections.abc import Sequence

from kvik.errors import InvalidRequestError
from kvik.text.tokenizer import Tokenizer
from kvik.text.vocabulary_checks import check_token_ids

MAX_SEQUENCES = 128
MAX_TOKENS = 1024


def tokenize_bad_words(words: Sequence[str], tokenizer: Tokenizer | None, vocab_size: int) -> list[list[int]]:
    """Each word as the tokenizer spells it at the start of a text and, where that differs, behind a space.

    Raises `InvalidRequestError` (param "bad_words"): no tokenizer, or more than the limits above.
    """
    if tokenizer is None:
        raise InvalidRequestError("bad_words need a tokenizer, and this server runs without", param="bad_words")
    if len(words) > MAX_SEQUENCES:
        raise _too_many("sequences", MAX_SEQUENCES, len(words))
    sequences: list[list[int]] = []
    for word in words:
        sequences += _spellings(word, tokenizer)
    if len(sequences) > MAX_SEQUENCES:
        raise _too_many("sequences", MAX_SEQUENCES, len(sequences))
    if (num_tokens := sum(map(len, sequences))) > MAX_TOKENS:
        raise _too_many("tokens", MAX_TOKENS, num_tokens)
    for sequence in sequences:
        check_token_ids("bad_words", sequence, vocab_size)
    return sequences


def _spellings(word: str, tokenizer: Tokenizer) -> list[list[int]]:
    first = tokenizer.encode(word, add_special_tokens=False)
    spaced = tokenizer.encode(" " + word.lstrip(), add_special_tokens=False)
    if not first or spaced[-len(first) :] == first:  # then the first spelling forbids the second one too
        return [first] if first else []
    return [first, spaced]


def _too_many(what: str, limit: int, count: int) -> InvalidRequestError:
    return InvalidRequestError(
        f"bad_words may come to {limit} {what} (each word with and without a space before it), got {count}",
        param="bad_words",
    )
