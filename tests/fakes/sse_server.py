"""A server on the loopback that answers every POST with the pieces it is given, each in a write of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from kvik.bench.endpoint import Endpoint

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"


def chunk(data: str) -> bytes:
    """One event as one chunk of a chunked body."""
    event = f"data: {data}\n\n".encode()
    return f"{len(event):x}\r\n".encode() + event + b"\r\n"


@contextlib.asynccontextmanager
async def sse_server(pieces: Sequence[bytes], keeps_open: bool = False) -> AsyncIterator[tuple[Endpoint, list[bytes]]]:
    """Yields its endpoint and the requests that it saw. `keeps_open`: it does not close when all is said."""
    requests: list[bytes] = []
    leave_open: list[asyncio.StreamWriter] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(h.split(b":")[1]) for h in head.split(b"\r\n") if h.lower().startswith(b"content-length"))
        requests.append(head + await reader.readexactly(length))
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        if keeps_open:
            leave_open.append(writer)
        else:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield Endpoint("127.0.0.1", port, "/v1/completions", "openai", "m"), requests
    finally:
        server.close()
        for writer in leave_open:
            writer.close()
        await asyncio.sleep(0)
