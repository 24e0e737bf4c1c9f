"""Where a growing text ends by a stop string, and how much of its end may yet become one. Knows no tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class StopMatch(NamedTuple):
    """`text[start:end]` is `stop`."""

    stop: str
    start: int
    end: int


class StopStrings:
    """The stop strings of one request, none of them empty."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = list(stops)
        self._max_length = max((len(s) for s in stops), default=0)

    def __bool__(self) -> bool:
        return bool(self._stops)

    def find(self, text: str, num_searched: int) -> StopMatch | None:
        """The match that is complete first, among those that end behind `num_searched` characters.

        Of two that end together, the one that stands first in the request.
        """
        best: StopMatch | None = None
        for stop in self._stops:
            start = text.find(stop, max(0, num_searched + 1 - len(stop)))
            if start >= 0 and (best is None or start + len(stop) < best.end):
                best = StopMatch(stop, start, start + len(stop))
        return best

    def num_held(self, text: str) -> int:
        """Characters at the end of `text` that may be the beginning of a stop string: the longest such tail."""
        return max((_overlap(text, stop) for stop in self._stops), default=0)


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a beginning of `stop`, `stop` itself not counted."""
    start = text.find(stop[0], max(0, len(text) - len(stop) + 1))
    while start >= 0:
        if stop.startswith(text[start:]):
            return len(text) - start
        start = text.find(stop[0], start + 1)
    return 0
