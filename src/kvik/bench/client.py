"""A client that costs a server on the same cores as little as it can: during a run it only notes bytes and times.

What the bytes say is read once the run is over, by `answer.py`. Knows sockets, and neither SSE nor JSON.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import cast

from kvik.bench.endpoint import Endpoint

LAST_CHUNK = b"0\r\n\r\n"
"""Ends a chunked body. Inside one it cannot come right after a line end: JSON has no raw line ends."""


@dataclass
class RawAnswer:
    """One request as the socket saw it. Times are `time.perf_counter()` seconds."""

    sent_s: float
    """Before the connection was opened."""
    pieces: list[bytes] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)
    """When each piece came."""
    error: str = ""
    """Why the connection failed, or ""."""


async def post(endpoint: Endpoint, request: bytes, timeout_s: float | None = None) -> RawAnswer:
    """Send `request` and collect all that comes back. Never raises for what the server or the network does."""
    raw = RawAnswer(time.perf_counter())
    loop = asyncio.get_running_loop()
    connection = _Connection(raw, request, loop)
    try:
        async with asyncio.timeout(timeout_s):
            await loop.create_connection(lambda: connection, endpoint.host, endpoint.port, ssl=endpoint.tls)
            await connection.ended
    except TimeoutError:
        raw.error = f"no end within {timeout_s:g} s" if timeout_s is not None else "the connection timed out"
    except OSError as e:
        raw.error = f"cannot connect to {endpoint.host}:{endpoint.port}: {e.strerror or e}"
    finally:
        connection.close()
    return raw


class _Connection(asyncio.Protocol):
    """Writes the request, notes what comes, and knows when it is over."""

    def __init__(self, raw: RawAnswer, request: bytes, loop: asyncio.AbstractEventLoop) -> None:
        self._request = request
        self._pieces, self._times_s, self._raw = raw.pieces, raw.times_s, raw
        self._transport: asyncio.Transport | None = None
        self.ended: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._times_s.append(time.perf_counter())
        self._pieces.append(data)
        if data.endswith(LAST_CHUNK) and (len(data) == len(LAST_CHUNK) or data.endswith(b"\r\n" + LAST_CHUNK)):
            self._end()

    def connection_lost(self, error: Exception | None) -> None:
        if error is not None:
            self._raw.error = f"the connection broke: {error}"
        self._end()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
