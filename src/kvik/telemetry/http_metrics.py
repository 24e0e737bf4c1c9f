"""Prometheus metrics of HTTP requests. The server says what happened; this room does not know any framework."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, Summary

NOT_INSTRUMENTED = frozenset({"/metrics", "/health", "/live", "/ready", "/load", "/ping", "/version", "/server_info"})
"""Paths that probes and scrapers ask for; `record` is not to be called for them."""
UNTEMPLATED = "none"
"""The handler of requests that no route took: their paths are the client's, and without end."""
DURATION_BUCKETS = (0.1, 0.5, 1)
FINE_DURATION_BUCKETS = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 7.5, 10, 30, 60,
)  # fmt: skip


class HttpMetrics:
    """Counts and times requests. One per registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "http_requests_total", "HTTP requests.", ["handler", "method", "status"], registry=registry
        )
        self._request_bytes = Summary(
            "http_request_size_bytes", "Bytes of request bodies.", ["handler"], registry=registry
        )
        self._response_bytes = Summary(
            "http_response_size_bytes", "Bytes of response bodies.", ["handler"], registry=registry
        )
        self._duration = Histogram(
            "http_request_duration_seconds", "Request to the end of the response.", ["handler", "method"],
            buckets=DURATION_BUCKETS, registry=registry,
        )  # fmt: skip
        self._fine_duration = Histogram(
            "http_request_duration_highr_seconds", "The same for all handlers together, in fine steps.",
            buckets=FINE_DURATION_BUCKETS, registry=registry,
        )  # fmt: skip

    def record(
        self, handler: str, method: str, status: int, duration_s: float, request_bytes: int, response_bytes: int
    ) -> None:
        """Take in one finished request. `handler` is the route's template ("/v1/models"), or `UNTEMPLATED`."""
        self._requests.labels(handler, method, f"{status // 100}xx").inc()
        self._request_bytes.labels(handler).observe(request_bytes)
        self._response_bytes.labels(handler).observe(response_bytes)
        self._duration.labels(handler, method).observe(duration_s)
        self._fine_duration.observe(duration_s)
