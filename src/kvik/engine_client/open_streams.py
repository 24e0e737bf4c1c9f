"""The requests whose answers are being made, each with the stream that takes them to its reader. Knows no engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kvik.engine_client.stream import RequestStream
from kvik.telemetry.ledger import Account
from kvik.text.outputs import RequestOutput


class OpenStreams:
    """By internal id. A stream that has ended is forgotten here at once; its reader may go on with what is unread."""

    def __init__(self, memory: Account, on_gone: Callable[[str], object]) -> None:
        """`memory`: what `RequestStream.held_bytes` were taken from. `on_gone` hears of each id that is no more."""
        self._memory = memory
        self._on_gone = on_gone
        self._streams: dict[str, RequestStream] = {}
        self._none_open = asyncio.Event()
        self._none_open.set()

    def __len__(self) -> int:
        return len(self._streams)

    def add(self, internal_id: str, stream: RequestStream) -> None:
        self._streams[internal_id] = stream
        self._none_open.clear()

    def caller_of(self, internal_id: str) -> str | None:
        """None: it is not open."""
        stream = self._streams.get(internal_id)
        return None if stream is None else stream.caller

    def put(self, internal_id: str, output: RequestOutput | Exception) -> None:
        """Give a stream its next output or its end; ids that are not open are ignored."""
        stream = self._streams.get(internal_id)
        if stream is None:
            return
        if isinstance(output, RequestOutput):
            stream.put(output)
        else:
            stream.fail(output)
        if stream.ended:
            self.forget(internal_id)

    def fail(self, internal_id: str, error: Exception) -> bool:
        """End a stream, which stays open until it is forgotten. Whether it was open."""
        stream = self._streams.get(internal_id)
        if stream is not None:
            stream.fail(error)
        return stream is not None

    def fail_all(self, make_error: Callable[[], Exception]) -> None:
        """End all, each by an error of its own."""
        for stream in self._streams.values():
            stream.fail(make_error())

    def forget(self, internal_id: str) -> None:
        """Harmless for ids that are not open."""
        stream = self._streams.pop(internal_id, None)
        if stream is not None:
            self._memory.give_back(stream.held_bytes)
        self._on_gone(internal_id)
        if not self._streams:
            self._none_open.set()

    def forget_all(self) -> None:
        for internal_id in list(self._streams):
            self.forget(internal_id)

    async def wait_for_none(self) -> None:
        """Until no request is open."""
        await self._none_open.wait()
