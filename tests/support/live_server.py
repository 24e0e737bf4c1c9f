"""The application on a real uvicorn and a free port, with the fake engine client behind it, all in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry

from kvik.errors import QueueFullError
from kvik.server.app import build_app
from kvik.server.hand_over import HandOver
from kvik.server.lifecycle import Stop
from kvik.server.serve import serve_http
from kvik.server.sockets import bind
from kvik.server.state import ServerState
from support.server_without_engine import FakeAsyncLLM, make_server


@dataclass
class Live:
    port: int
    llm: FakeAsyncLLM
    state: ServerState
    stop: Stop
    serving: asyncio.Task[None]

    async def open(self, path: str, body: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection with a request on it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(
            f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        return reader, writer

    async def get(self, path: str) -> bytes:
        """Head and body of the answer, on a connection of its own."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        return answer

    async def get_status(self, path: str) -> int:
        return int((await self.get(path)).split(b" ")[1])

    def fill_up(self) -> None:
        """From now on, requests are refused as they are beyond --max-num-queued-reqs."""

        async def refuse(*args: Any, **options: Any) -> Any:
            raise QueueFullError("1 prompts are open, which is all that --max-num-queued-reqs allows")

        self.llm.add_request = refuse  # type: ignore[method-assign]

    async def until_aborted(self) -> None:
        while not self.llm.aborted:
            self.llm.news.clear()
            await self.llm.news.wait()


@contextlib.asynccontextmanager
async def live_server(
    hand_over: HandOver = HandOver.NOBODY, sock: socket.socket | None = None, **flags: Any
) -> AsyncIterator[Live]:
    """Runs until the body ends, or until the body has stopped it. On `sock`, or on a port that nobody uses."""
    made = make_server(host="127.0.0.1", port=0, disable_uvicorn_access_log=True, **flags)
    made.llm.news = asyncio.Event()
    started = asyncio.Event()
    stop = Stop(lambda count: None)
    app = build_app(made.state, CollectorRegistry())
    with contextlib.closing(sock or bind(made.state.config)) as listening:
        port = listening.getsockname()[1]
        serving = asyncio.create_task(
            serve_http(app, listening, made.state, stop, on_startup=started.set, hand_over=hand_over)
        )
        await started.wait()
        try:
            yield Live(port, made.llm, made.state, stop, serving)
        finally:
            if not serving.done():
                stop.notify(15)
                stop.notify(15)
                await serving
