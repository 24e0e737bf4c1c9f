"""Answers as ASGI apps: JSON bytes, and a stream of server-sent events. Knows no schema.

Both hand bytes straight to `send`; nothing between here and the socket looks at them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from kvik.server.errors import RETRY_AFTER_S, ErrorInfo

encode = msgspec.json.Encoder().encode

DONE_EVENT = b"data: [DONE]\n\n"
KEEP_ALIVE_COMMENT = b": keep-alive\n\n"
_SSE_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


def event(data: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + encode(data) + b"\n\n"


class EventTemplate:
    """An event that differs from its like in one string: encoded once but for that.

    `data` has "" at `key`, once and at any depth. No string of it can hold what is searched for, `"key":""`: quotes
    are escaped within strings.
    """

    __slots__ = ("_after", "_before")

    def __init__(self, data: Any, key: str) -> None:
        before, found, after = event(data).partition(b'"%b":""' % key.encode())
        assert found, f"the event has no empty {key}"
        self._before = before + b'"%b":' % key.encode()
        self._after = after

    def fill(self, text: str) -> bytes:
        return self._before + encode(text) + self._after


def json_response(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(encode(content), status_code=status, headers=headers, media_type="application/json")


def error_response(
    info: ErrorInfo,
    *,
    detail: str | None = None,
    headers: dict[str, str] | None = None,
    body: dict[str, Any] | None = None,
) -> Response:
    """The error body, or `body` in place of it; `detail` is added where the framework would have sent it alone."""
    body = body or info.body() | ({} if detail is None else {"detail": detail})
    extra = dict(headers or {})
    if info.status in (429, 503):
        extra.setdefault("Retry-After", str(info.retry_after_s or RETRY_AFTER_S))
    if info.status in (408, 413):
        extra["Connection"] = "close"
    return json_response(body, info.status, extra)


class EventStreamResponse(Response):
    """Sends `events` (whole events, several may be joined) until they end or the client goes away.

    `events` reports its own errors as events. `on_close` frees what it reads from; it is called in every case, and at
    once when the client goes away, whatever `events` waits for.
    """

    def __init__(
        self,
        events: AsyncIterator[bytes],
        on_close: Callable[[], Awaitable[None]],
        keep_alive_interval_s: float = 0.0,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.body = b""
        self.raw_headers = list(_SSE_HEADERS)
        self._events = events
        self._on_close = on_close
        self._keep_alive_interval_s = keep_alive_interval_s
        self._last_sent_s = 0.0
        self._has_ended = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sender = asyncio.ensure_future(self._send_all(send))
        helpers = [asyncio.ensure_future(wait_for_disconnect(receive))]
        if self._keep_alive_interval_s > 0:
            helpers.append(asyncio.ensure_future(self._keep_alive(send)))
        try:
            await asyncio.wait({sender, *helpers[:1]}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await settle(sender, *helpers)
            await self._on_close()
        if not sender.cancelled():
            sender.result()

    async def _send_all(self, send: Send) -> None:
        self._last_sent_s = time.monotonic()
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async for events in self._events:
            self._last_sent_s = time.monotonic()
            await send({"type": "http.response.body", "body": events, "more_body": True})
        self._has_ended = True
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _keep_alive(self, send: Send) -> None:
        wait_s = self._keep_alive_interval_s
        while not self._has_ended:
            await asyncio.sleep(wait_s)
            wait_s = self._last_sent_s + self._keep_alive_interval_s - time.monotonic()
            if wait_s <= 0 and not self._has_ended:
                wait_s = self._keep_alive_interval_s
                self._last_sent_s = time.monotonic()
                await send({"type": "http.response.body", "body": KEEP_ALIVE_COMMENT, "more_body": True})


async def wait_for_disconnect(receive: Receive) -> None:
    """Return when the client has gone; the request's body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def settle(*tasks: asyncio.Future[Any]) -> None:
    """Cancel what still runs and wait until it has ended; whatever it raised is the caller's to look at, or not."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()
