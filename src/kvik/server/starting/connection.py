"""One connection before the application is there: a head comes in, one answer goes out, and that is all.

What a client sends behind its head is thrown away for a moment, so that it is not reset before it has read the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

from kvik.server.errors import describe_status
from kvik.server.starting.answers import failure
from kvik.server.starting.head import BadHeadError, Head, parse_head

LINGER_S = 2.0
"""Between the answer and the end, for a client that still sends, or reads slowly."""
MAX_IGNORED_BYTES = 1 << 22


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    max_head_bytes: int
    header_timeout_s: float
    """0: as long as it takes."""


class Desk(Protocol):
    """Who knows all connections."""

    def arrived(self, connection: StartingConnection) -> None: ...

    def left(self, connection: StartingConnection) -> None: ...


class StartingConnection(asyncio.Protocol):
    """Made by the desk, one per connection."""

    def __init__(self, desk: Desk, answer: Callable[[Head], bytes], limits: ConnectionLimits) -> None:
        self._desk = desk
        self._answer = answer
        self._limits = limits
        self._received = bytearray()
        self._num_ignored_bytes = 0
        self._is_answered = False
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def become(self, make_protocol: Callable[[], asyncio.Protocol]) -> None:
        """Leave the connection, and what has come on it, to another protocol; an answered one only ends."""
        if self._transport is None or self._is_answered or self._transport.is_closing():
            return
        self._stop_timer()
        transport, self._transport = self._transport, None
        heir = make_protocol()
        transport.set_protocol(heir)
        heir.connection_made(transport)
        if self._received:
            heir.data_received(bytes(self._received))

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # --- what the transport calls ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by name
        if self._limits.header_timeout_s:
            self._start_timer(self._limits.header_timeout_s, self._too_slow)
        self._desk.arrived(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._desk.left(self)

    def data_received(self, data: bytes) -> None:
        if self._is_answered:
            self._ignore(len(data))
            return
        unseen = max(0, len(self._received) - 3)
        self._received += data
        if unseen and self._received.find(b"\r\n\r\n", unseen) < 0:
            self._check_length()
            return
        try:
            head = parse_head(bytes(self._received))
        except BadHeadError as error:
            self._end_with(failure(None, describe_status(400, f"this is no HTTP request: {error}")))
            return
        if head is not None:
            self._end_with(self._answer(head))
        else:
            self._check_length()

    def _check_length(self) -> None:
        if len(self._received) > self._limits.max_head_bytes:
            text = f"the head of a request may have {self._limits.max_head_bytes} bytes while the server starts"
            self._end_with(failure(None, describe_status(431, text)))

    # --- the end ---------------------------------------------------------------------------------------

    def _end_with(self, answer: bytes) -> None:
        assert self._transport is not None
        self._is_answered = True
        self._received.clear()
        self._transport.write(answer)
        if self._transport.can_write_eof():
            self._transport.write_eof()
            self._start_timer(LINGER_S, self.abort)
        else:  # TLS: the client knows from the length of the answer that this was all
            self._start_timer(LINGER_S, self._transport.close)

    def _ignore(self, num_bytes: int) -> None:
        self._num_ignored_bytes += num_bytes
        if self._num_ignored_bytes > MAX_IGNORED_BYTES:
            self.abort()

    def _too_slow(self) -> None:
        """408 where a head has begun; a client that has said nothing is told nothing."""
        if self._received:
            text = "the head of the request came too slowly; send it within the --header-timeout"
            self._end_with(failure(None, describe_status(408, text)))
        else:
            self.abort()

    def _start_timer(self, seconds: float, what: Callable[[], None]) -> None:
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(seconds, what)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
