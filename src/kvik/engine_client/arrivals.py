"""Requests on their way in: being checked and tokenized, their grammar compiled. Whoever ends requests finds these too.

Knows ids; no prompt and no engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Arrival:
    request_id: str
    caller: str
    is_aborted: bool = False
    """It is to end as soon as it is there."""


class Arrivals:
    def __init__(self) -> None:
        self._open: set[Arrival] = set()

    @contextmanager
    def open(self, request_id: str, caller: str = "") -> Iterator[Arrival]:
        """While a request is made ready for the engine."""
        arrival = Arrival(request_id, caller)
        self._open.add(arrival)
        try:
            yield arrival
        finally:
            self._open.discard(arrival)

    def abort(self, asked: str | None, caller: str | None = None) -> int:
        """Mark those that `asked` names and that `caller` sent, all for None; how many were not marked before."""
        marked = [
            a for a in self._open
            if not a.is_aborted and caller in (None, a.caller) and (asked is None or is_named(a.request_id, asked))
        ]  # fmt: skip
        for arrival in marked:
            arrival.is_aborted = True
        return len(marked)


def is_named(request_id: str, asked: str) -> bool:
    """Whether `asked` names this request, or all prompts of the one that it is a part of (ID-0, ID-1, ...)."""
    if request_id == asked:
        return True
    base, _, index = request_id.rpartition("-")
    return base == asked and index.isascii() and index.isdecimal()
