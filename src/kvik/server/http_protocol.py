"""uvicorn's httptools protocol with limits on the head of a request: its bytes and its number of headers.

httptools itself collects a header of any length. A head beyond a limit is answered with 431, one that is no HTTP with
400, both with the error body, and the connection is closed.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from kvik.server.errors import describe_status
from kvik.server.responses import encode


class _TooManyHeadersError(Exception):
    pass


class LimitedHttpProtocol(HttpToolsProtocol):
    """`max_head_bytes` and `max_headers` are set by `limited_protocol`."""

    max_head_bytes: int
    max_headers: int

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._num_head_bytes = 0
        self._is_in_head = True
        self._has_too_many_headers = False

    def data_received(self, data: bytes) -> None:
        """Counts what arrives while a head is incomplete; a body is the application's to limit."""
        if self._is_in_head:
            self._num_head_bytes += len(data)
        super().data_received(data)
        if self._is_in_head and self._num_head_bytes > self.max_head_bytes and not self.transport.is_closing():
            self._refuse(431, f"the head of a request may have {self.max_head_bytes} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self.headers) >= self.max_headers:
            self._has_too_many_headers = True
            raise _TooManyHeadersError
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._num_head_bytes = 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._is_in_head = True
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Called by the base class when the parser gives up."""
        if self._has_too_many_headers:
            self._refuse(431, f"a request may have {self.max_headers} headers")
        else:
            self._refuse(400, msg)

    def _refuse(self, status: int, message: str) -> None:
        body = encode(describe_status(status, message).body())
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


def limited_protocol(head_bytes: int, headers: int) -> type[LimitedHttpProtocol]:
    """The protocol class with these limits; uvicorn makes one object per connection."""

    class Protocol(LimitedHttpProtocol):
        max_head_bytes = head_bytes
        max_headers = headers

    return Protocol
