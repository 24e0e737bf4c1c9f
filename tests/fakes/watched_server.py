"""A server on the loopback whose answers a test sets and changes: path -> status and body. Notes what it was asked."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

Answers = dict[str, tuple[int, Any]]


class WatchedServer:
    """`with WatchedServer({"/live": (200, {"status": "ok"})}) as server: ...`; a body that is text goes as it is."""

    def __init__(self, answers: Answers, port: int = 0) -> None:
        self.answers = answers
        self.posted: list[tuple[str, Any]] = []
        self.keys: set[str | None] = set()
        watched = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                watched.keys.add(self.headers["Authorization"])
                status, body = watched.answers.get(self.path, (404, {"detail": "Not Found"}))
                content = (body if isinstance(body, str) else json.dumps(body)).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def do_POST(self) -> None:
                watched.posted.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
                self.do_GET()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> WatchedServer:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
