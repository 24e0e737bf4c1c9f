"""Where the last tokens of a sequence stood before: an n-gram index that grows with the sequence. Knows no model.

Chains as in LZ77 compressors (the index of zlib): a table from each n-gram to its newest end, and per position the end
of the same n-gram before. A token costs one table entry, a look-up one walk over the newest occurrences.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

MAX_OCCURRENCES = 64
"""Newest occurrences of an n-gram that are looked at: bounds the time of a look-up in text full of one n-gram."""
_NOWHERE = -1


class Occurrence(NamedTuple):
    """`length` tokens before `next_position` equal the last ones of the context."""

    length: int
    next_position: int


class TokenHistory:
    """An index over `token_ids`, which others lengthen; never shorten it or change what is in it."""

    def __init__(self, token_ids: list[int], gram: int) -> None:
        """`gram`: tokens of the shortest match that can be found, 1 or more."""
        self.token_ids = token_ids
        self._gram = gram
        self._newest_end: dict[tuple[int, ...], int] = {}
        self._end_before: list[int] = []
        """By position of an n-gram's last token; as long as what is indexed."""

    def catch_up(self) -> None:
        """Index the tokens that were appended since the last call."""
        gram, newest, before, tokens = self._gram, self._newest_end, self._end_before, self.token_ids
        for end in range(len(before), len(tokens)):
            key = tuple(tokens[max(0, end + 1 - gram) : end + 1])
            before.append(newest.get(key, _NOWHERE))
            newest[key] = end

    def occurrences(self, context: Sequence[int], max_length: int) -> Iterator[Occurrence]:
        """Where at least `gram` of the last tokens of `context` stand, the newest first; lengths up to `max_length`.

        A context that is the indexed sequence itself, caught up, is not found at its own end.
        """
        gram, tokens = self._gram, self.token_ids
        if len(context) < gram:
            return
        end = self._newest_end.get(tuple(context[-gram:]), _NOWHERE)
        if context is tokens and end == len(tokens) - 1:
            end = self._end_before[end]
        for _ in range(MAX_OCCURRENCES):
            if end == _NOWHERE:
                return
            yield Occurrence(_common_length(tokens, end, context, gram, max_length), end + 1)
            end = self._end_before[end]


def _common_length(tokens: Sequence[int], end: int, context: Sequence[int], at_least: int, at_most: int) -> int:
    """Tokens up to `end` that equal the last ones of `context`; `at_least` are known to."""
    last = len(context) - 1
    limit = min(at_most, end + 1, last + 1)
    length = at_least
    while length < limit and tokens[end - length] == context[last - length]:
        length += 1
    return length
