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
    named = os.environ.get("OTEL_SERVICE_NAME") or "kvik"
    resource = Resource.create({"service.name": named, "service.version": __version__})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_Quiet(exporter or _exporter(target), target.url)))
    return provider


def close_provider(provider: TracerProvider) -> None:
    """Send what is left, for a moment. A collector that does not answer keeps nobody."""
    ending = threading.Thread(target=provider.shutdown, name="last-spans", daemon=True)
    ending.start()
    ending.join(END_TIMEOUT_S)


class _Quiet(SpanExporter):
    """Tells once that spans get lost, and once that they do no longer."""

    def __init__(self, inner: SpanExporter, url: str) -> None:
        self._inner = inner
        self._url = url
        self._fails = False
        # Its own lines would come with each batch.
        logging.getLogger("opentelemetry").addHandler(logging.NullHandler())
        logging.getLogger("opentelemetry").propagate = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
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


def _exporter(target: Target) -> SpanExporter:
    exporter: SpanExporter
    if target.protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter

        insecure = target.url.startswith("http://")
        exporter = GrpcExporter(endpoint=target.url, insecure=insecure, timeout=SEND_TIMEOUT_S)
        return exporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter

    exporter = HttpExporter(endpoint=target.url, timeout=SEND_TIMEOUT_S)
    return exporter
