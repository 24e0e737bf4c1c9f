"""Answers of earlier requests, kept to draft from. Bounded in answers and tokens; knows no request.

Two generations: when the young one is half of what may be kept, it becomes the old one and the old one is dropped. So
nothing is ever removed from the middle of an index.
"""

from __future__ import annotations

from collections.abc import Sequence

from kvik.drafting.history import TokenHistory

MAX_TOKENS = 1 << 18
"""About 60 MB with the index."""
END_OF_ANSWER = -1
"""Stands between two answers; no token has this id."""


class PastAnswers:
    """At most `max_answers` answers, the newest."""

    def __init__(self, max_answers: int, gram: int, max_tokens: int = MAX_TOKENS) -> None:
        self._max_answers = max_answers
        self._max_tokens = max_tokens
        self._gram = gram
        self._young, self._num_young = TokenHistory([], gram), 0
        self._old = TokenHistory([], gram)

    @property
    def histories(self) -> tuple[TokenHistory, TokenHistory]:
        """The newer first."""
        return self._young, self._old

    def add(self, token_ids: Sequence[int]) -> None:
        """Keep an answer; one that is too long for a generation is not kept."""
        num_tokens = len(token_ids) + 1  # its end is one, too
        if 2 * num_tokens > self._max_tokens or self._max_answers < 2:
            return
        is_full = 2 * (self._num_young + 1) > self._max_answers
        if is_full or 2 * (len(self._young.token_ids) + num_tokens) > self._max_tokens:
            self._old, self._young, self._num_young = self._young, TokenHistory([], self._gram), 0
        self._young.token_ids += [*token_ids, END_OF_ANSWER]
        self._young.catch_up()
        self._num_young += 1
