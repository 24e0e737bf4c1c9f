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
        self._waiting: list[tuple[str, PositionLogprobs]] = []
        """Tokens with their texts."""

    def add(self, positions: Sequence[PositionLogprobs] | None) -> None:
        """The next tokens of the answer."""
        if self._num_top is not None and positions:
            self._waiting += [(next(iter(position.values())).decoded_token, position) for position in positions]

    def take(self, text: str) -> list[dict[str, Any]]:
        """The tokens that `text` consists of, with their alternatives; those before it are dropped."""
        if self._num_top is None or not self._waiting or not text:
            return []
        start = "".join(token for token, _ in self._waiting).find(text)
        if start < 0:  # the parser wrote it anew, or it holds a character of several tokens
            taken, self._waiting = self._waiting, []
        else:
            taken = self._cut(start, start + len(text))
        content: list[dict[str, Any]] = chat_logprobs([position for _, position in taken], self._num_top, self._as_ids)[
            "content"
        ]
        return content

    def drop(self, text: str) -> None:
        """`text` is no part of a message: neither are its tokens."""
        joined = "".join(token for token, _ in self._waiting)
        start = joined.find(text) if text else -1
        if start >= 0:
            self._cut(start, start + len(text))

    def _cut(self, start: int, end: int) -> list[tuple[str, PositionLogprobs]]:
        """Take the tokens of the characters from `start` to `end`, and forget those before them."""
        first = last = None
        position = 0
        for i, (token, _) in enumerate(self._waiting):
            if position < end and position + len(token) > start:
                first, last = i if first is None else first, i + 1
            position += len(token)
        taken = self._waiting[first:last] if last is not None else []
        self._waiting = self._waiting[last:] if last is not None else self._waiting
        return taken
