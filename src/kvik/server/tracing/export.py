"""Sends spans to a collector, in a thread of its own. Whatever the collector does, requests do not wait for it.

Spans that a slow collector leaves no room for are dropped; of one that cannot be reached, one log line tells.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from kvik import __version__
from kvik.server.tracing.check import Target
from kvik.telemetry.log import get_logger

logger = get_logger(__name__)

SEND_TIMEOUT_S = 5
"""For one batch; then it is lost."""
END_TIMEOUT_S = 2.0
"""For what is left when the server ends."""


def open_provider(target: Target, exporter: SpanExporter | None = None) -> TracerProvider:
    """Spans made with it go to `target`. `exporter`: who sends them, if not one for the target's protocol.

    OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES and OTEL_EXPORTER_OTLP_* (headers, certificates, compression) hold.
    """
    provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
    most = target.max_queue_size
    watched = _Watched(exporter or _exporter(target), target.url, most)
    provider.add_span_processor(_WatchedQueue(watched, max_queue_size=most))
    return provider


def _resource() -> Resource:
    is_named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return Resource.create({"service.version": __version__} | ({} if is_named else {"service.name": "kvik"}))


def close_provider(provider: TracerProvider) -> None:
    """Send what is left, for a moment. A collector that does not answer keeps nobody."""
    ending = threading.Thread(target=provider.shutdown, name="last-spans", daemon=True)
    ending.start()
    ending.join(END_TIMEOUT_S)


class _Watched(SpanExporter):
    """Tells once that spans get lost, and once that they do no longer."""

    def __init__(self, inner: SpanExporter, url: str, max_queue_size: int) -> None:
        self._inner = inner
        self._url = url
        self._max_queue_size = max_queue_size
        self._num_queued = 0
        self._lock = threading.Lock()
        self._fails = False
        self._overflows = False
        # Its own lines would come with each batch.
        logging.getLogger("opentelemetry").addHandler(logging.NullHandler())
        logging.getLogger("opentelemetry").propagate = False

    def queued(self) -> None:
        """One more span waits to be sent; beyond so many the oldest is lost."""
        with self._lock:
            self._num_queued += 1
            is_lost = self._num_queued > self._max_queue_size
            self._num_queued -= is_lost
        if is_lost and not self._overflows:
            self._overflows = True
            logger.warning("traces are made faster than %s takes them, and some are lost", self._url)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with self._lock:
            self._num_queued = max(0, self._num_queued - len(spans))
            if self._num_queued < self._max_queue_size // 2:
                self._overflows = False
        try:
            result = self._inner.export(spans)
        except Exception as error:
            self._note(True, f": {error}")
            return SpanExportResult.FAILURE
        self._note(result is not SpanExportResult.SUCCESS)
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._inner.force_flush(timeout_millis)

    def _note(self, fails: bool, why: str = "") -> None:
        if fails and not self._fails:
            logger.warning("traces cannot be sent to %s, and are lost until it takes them%s", self._url, why)
        elif self._fails and not fails:
            logger.info("traces are sent to %s again", self._url)
        self._fails = fails


class _WatchedQueue(BatchSpanProcessor):
    """Counts what it queues: by itself it drops without a word."""

    def __init__(self, watched: _Watched, max_queue_size: int) -> None:
        super().__init__(watched, max_queue_size=max_queue_size, max_export_batch_size=min(512, max_queue_size))
        self._watched = watched

    def on_end(self, span: ReadableSpan) -> None:
        self._watched.queued()
        super().on_end(span)


def _exporter(target: Target) -> SpanExporter:
    """What the environment says of time and TLS goes before our own."""
    exporter: SpanExporter
    timeout = None if _is_set("TIMEOUT") else SEND_TIMEOUT_S
    if target.protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter

        insecure = None if _is_set("INSECURE") else target.url.startswith("http://")
        exporter = GrpcExporter(endpoint=target.url, insecure=insecure, timeout=timeout)
        return exporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter

    exporter = HttpExporter(endpoint=target.url, timeout=timeout)
    return exporter


def _is_set(name: str) -> bool:
    return any(os.environ.get(prefix + name) for prefix in ("OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_"))
