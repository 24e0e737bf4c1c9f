"""The events of one response, as the bytes that are sent: numbered, and kept for those who come later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Protocol

from kvik.server.responses import encode


class EventSink(Protocol):
    """Where the events of a response go."""

    def emit(self, kind: str, **fields: Any) -> None:
        """The next event; `kind` is its type."""


class NoEvents:
    """Of a response that nobody reads before it is whole."""

    def emit(self, kind: str, **fields: Any) -> None:
        pass


class EventLog:
    """One writer, and any number of readers. An event's index is its sequence number.

    With `keeps` false there is one reader, `take`, and what it has taken is forgotten.
    """

    def __init__(self, *, keeps: bool) -> None:
        self._keeps = keeps
        self._events: list[bytes] = []
        self._num_emitted = 0
        self._num_taken = 0
        """Of those in `_events`."""
        self._news = asyncio.Event()
        self.num_bytes = 0
        """Of all that is kept."""
        self.has_ended = False

    def emit(self, kind: str, **fields: Any) -> None:
        data = {"type": kind, "sequence_number": self._num_emitted} | fields
        event = b"event: %b\ndata: %b\n\n" % (kind.encode(), encode(data))
        self._num_emitted += 1
        self._events.append(event)
        self.num_bytes += len(event)
        self._wake_readers()

    def end(self) -> None:
        """There is no further event."""
        self.has_ended = True
        self._wake_readers()

    def take(self) -> bytes:
        """What `take` has not given yet, joined."""
        new = b"".join(self._events[self._num_taken :])
        if self._keeps:
            self._num_taken = len(self._events)
        else:
            self._events.clear()
            self.num_bytes = 0
        return new

    async def follow(self, starting_after: int) -> AsyncIterator[bytes]:
        """All events with a number above `starting_after`, several joined, until there is no further one."""
        position = starting_after + 1
        while True:
            news = self._news
            if position < len(self._events):
                new = self._events[position:]
                position += len(new)
                yield b"".join(new)
            elif self.has_ended:
                return
            else:
                await news.wait()

    def _wake_readers(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
