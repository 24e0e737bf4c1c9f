"""uvicorn's httptools protocol with limits on the head of a request and on what waits to be sent.

httptools itself collects a header of any length. A head beyond a limit is answered with 431, one that is no HTTP with
400, one that came too slowly with 408, all with the error body, and the connection is closed. What a client owes, of a
request or of taking its answer, is for `slow_clients` to see.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from kvik.server.errors import describe_status
from kvik.server.middleware.paths import POLLED_PATHS
from kvik.server.responses import encode


class _TooManyHeadersError(Exception):
    pass


@dataclass(slots=True)
class ConnectionRules:
    """What all connections of one server keep to."""

    max_head_bytes: int
    max_headers: int
    send_buffer_bytes: int = 65536
    """Of an answer; when more wait to be sent, `send` waits."""
    closes_after_answer: bool = False
    """The server is going down: each connection may have one more answer."""


_POLL_HEADER = (b"x-kvik-poll", b"1")
_POLLED = tuple(POLLED_PATHS)


def _is_poll(scope: Any) -> bool:
    """The page at /ui asks each second: such lines would bury all others. Any prefix may stand before the path."""
    return scope["method"] == "GET" and _POLL_HEADER in scope["headers"] and scope["path"].endswith(_POLLED)


class LimitedHttpProtocol(HttpToolsProtocol):
    """`rules` are set by `limited_protocol`."""

    rules: ConnectionRules

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._num_head_bytes = 0
        self._is_in_head = True
        self._has_too_many_headers = False
        self._num_heads = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=self.rules.send_buffer_bytes)

    def data_received(self, data: bytes) -> None:
        """Counts what arrives while a head is incomplete; a body is the application's to limit."""
        if self._is_in_head:
            self._num_head_bytes += len(data)
        super().data_received(data)
        if self._is_in_head and self._num_head_bytes > self.rules.max_head_bytes and not self.transport.is_closing():
            self._refuse(431, f"the head of a request may have {self.rules.max_head_bytes} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self.headers) >= self.rules.max_headers:
            self._has_too_many_headers = True
            raise _TooManyHeadersError
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._num_head_bytes = 0
        self._num_heads += 1
        super().on_headers_complete()
        if self.rules.closes_after_answer and self.cycle is not None:
            self.cycle.keep_alive = False
        if _is_poll(self.scope) and self.cycle is not None:
            self.cycle.access_log = False

    def on_message_complete(self) -> None:
        self._is_in_head = True
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Called by the base class when the parser gives up."""
        if self._has_too_many_headers:
            self._refuse(431, f"a request may have {self.rules.max_headers} headers")
        else:
            self._refuse(400, msg)

    @property
    def num_stuck_bytes(self) -> int:
        """Unsent bytes that only shrink: as many as fit wait, or the connection closes when they have been sent."""
        only_shrinks = self.flow.write_paused or self.transport.is_closing()
        return self.transport.get_write_buffer_size() if only_shrinks else 0

    @property
    def awaited_request(self) -> int | None:
        """An incomplete head, or a body that nobody reads any more; the time of other bodies is their handlers' matter.

        A connection that has had an answer and is silent since has uvicorn's timeout of its own.
        """
        if self.cycle is not None and not self.cycle.response_complete:
            return None
        is_idle = self._is_in_head and self._num_head_bytes == 0 and self.cycle is not None
        return None if is_idle or self.transport.is_closing() else 2 * self._num_heads + self._is_in_head

    @property
    def name(self) -> str:
        client = f"{self.client[0]}:{self.client[1]}" if self.client else "a client"
        return f"{client} ({self.scope['path'][:200]})" if self.cycle is not None else client

    def abort(self) -> None:
        self.transport.abort()

    def refuse_late_request(self) -> None:
        """408 where a head has begun; a client that has said nothing, or has had its answer, is told nothing."""
        if self._is_in_head and self._num_head_bytes:
            self._refuse(408, "the head of the request came too slowly; send it within the --header-timeout")
        self.transport.close()

    def _refuse(self, status: int, message: str) -> None:
        body = encode(describe_status(status, message).body())
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


def limited_protocol(shared: ConnectionRules) -> type[LimitedHttpProtocol]:
    """The protocol class with these rules; uvicorn makes one object per connection."""

    class Protocol(LimitedHttpProtocol):
        rules = shared

    return Protocol
