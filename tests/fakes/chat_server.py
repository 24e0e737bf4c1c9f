"""A server of the standard library that answers the endpoints of `kvik chat` and `kvik complete` as it is told to."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

CHAT_STREAM = (
    b': keep-alive\n\ndata: {"choices": [{"delta": {"role": "assistant", "content": ""}}]}\n\n'
    b'data: {"choices": [{"delta": {"content": "Hej"}}]}\n\ndata: {"choices": [{"delta": {"content": "!"}}]}\n\n'
    b'data: {"choices": [], "usage": {"completion_tokens": 2}}\n\ndata: [DONE]\n\n'
)
TEXT_STREAM = b'data: {"choices": [{"text": "one"}]}\n\ndata: {"choices": [{"text": " two"}]}\n\ndata: [DONE]\n\n'


def events(*deltas: dict[str, str]) -> bytes:
    """A chat stream of these deltas, without its end."""
    return b"".join(b"data: " + json.dumps({"choices": [{"delta": delta}]}).encode() + b"\n\n" for delta in deltas)


class ChatServer(HTTPServer):
    """Remembers requests. `status` other than 200: every answer is an error, of /v1/models too only with `all_fail`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.status = 200
        self.all_fail = True
        self.models = b'{"data": [{"id": "first"}, {"id": "second"}]}'
        self.streams = {"chat": CHAT_STREAM, "text": TEXT_STREAM}
        self.unending = b""
        """What questions with "forever" in them are answered; then nothing comes until the client leaves."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def do_GET(self) -> None:
        self._answer(self.server.models, can_fail=self.server.all_fail)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        if "chat" in self.path and "forever" in body["messages"][-1]["content"]:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.server.unending)
            self.rfile.read(1)  # until the client has gone
        else:
            self._answer(self.server.streams["chat" if "chat" in self.path else "text"])

    def _answer(self, body: bytes, can_fail: bool = True) -> None:
        self.server.keys.append(self.headers["Authorization"])
        status = self.server.status if can_fail else 200
        if status != 200:
            body = b'{"error": {"message": "no such model"}}'
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def chat_server() -> Iterator[ChatServer]:
    """Serves from a thread of its own until the body ends."""
    with ChatServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
