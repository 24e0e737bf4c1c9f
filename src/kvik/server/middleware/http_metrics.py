"""Measures HTTP requests for the metrics of `kvik.telemetry.http_metrics`. Changes nothing.

Labels come from fixed sets (route templates, known methods), so that no client can make series.
"""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kvik.server.middleware.paths import GENERATION_PATHS, is_metrics, route_path
from kvik.telemetry.http_metrics import NOT_INSTRUMENTED, UNTEMPLATED, HttpMetrics

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class HttpMetricsMiddleware:
    """Measures every request but probes and scrapes, to the end of its response."""

    def __init__(self, app: ASGIApp, metrics: HttpMetrics) -> None:
        self.app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = "" if scope["type"] != "http" else route_path(scope)
        if scope["type"] != "http" or path in NOT_INSTRUMENTED or is_metrics(path):
            await self.app(scope, receive, send)
            return
        start_s = time.perf_counter()
        status = 500
        num_bytes = 0

        async def counting_send(message: Message) -> None:
            nonlocal status, num_bytes
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                num_bytes += len(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, receive, counting_send)
        finally:
            # A flood is refused before it has a route.
            handler = getattr(scope.get("route"), "path", path if path in GENERATION_PATHS else UNTEMPLATED)
            method = scope["method"] if scope["method"] in _METHODS else "OTHER"
            duration_s = time.perf_counter() - start_s
            self._metrics.record(handler, method, status, duration_s, _content_length(scope), num_bytes)


def _content_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and len(value) < 20:
            return int(value)
    return 0
