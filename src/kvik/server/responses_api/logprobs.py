"""Which tokens' log probabilities belong to which text of a message. Knows neither parsers nor items.

A parser hands on pieces of the answer's text: later than the tokens came, cut elsewhere, and without what was markup
or reasoning. But it hands them on in order, so each piece is looked for in the text of the tokens that wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kvik.server.logprobs import chat_logprobs
from kvik.text.outputs import PositionLogprobs


class ContentLogprobs:
    """The tokens of one answer, taken by the pieces of its text."""

    def __init__(self, num_top: int | None, as_ids: bool) -> None:
        """`num_top` alternatives per token; None: no logprobs are asked for, and none are given."""
        self._num_top = num_top
        self._as_ids = as_ids
        self._waiting: list[tuple[str, PositionLogprobs | None]] = []
        """Tokens with their texts; of a token that has been given, the rest of its text and None."""

    def add(self, positions: Sequence[PositionLogprobs] | None) -> None:
        """The next tokens of the answer."""
        if self._num_top is not None and positions:
            self._waiting += [(next(iter(position.values())).decoded_token, position) for position in positions]

    def take(self, text: str) -> list[dict[str, Any]]:
        """The tokens that `text` consists of, with their alternatives; those before it are dropped."""
        if self._num_top is None or not self._waiting or not text:
            return []
        start = self._find(text)
        if start < 0:  # the parser wrote it anew
            start, text = 0, "".join(token for token, _ in self._waiting)
        positions = self._cut(start, start + len(text))
        content: list[dict[str, Any]] = chat_logprobs(positions, self._num_top, self._as_ids)["content"]
        return content

    def drop(self, text: str) -> None:
        """`text` is no part of a message: neither are its tokens."""
        start = self._find(text) if text and self._waiting else -1
        if start >= 0:
            self._cut(start, start + len(text))

    def _find(self, text: str) -> int:
        return "".join(token for token, _ in self._waiting).find(text)

    def _cut(self, start: int, end: int) -> list[PositionLogprobs]:
        """Take the tokens of the characters from `start` to `end`, and forget those before them."""
        taken: list[PositionLogprobs] = []
        position = 0
        for i, (token, logprobs) in enumerate(self._waiting):
            if position >= end:
                self._waiting = self._waiting[i:]
                return taken
            after = position + len(token)
            # The first bytes of a character are tokens without a text; they go with the one that completes it.
            if logprobs is not None and (after > start or position == after == start):
                taken.append(logprobs)
            if after > end:
                self._waiting = [(token[end - position :], None), *self._waiting[i + 1 :]]
                return taken
            position = after
        self._waiting = []
        return taken
