"""The ledger of memory among the metrics: asked when somebody scrapes, so that it costs nothing in between."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from kvik.telemetry.ledger import Ledger
from kvik.telemetry.prefixes import OWN_PREFIX

_USED = (OWN_PREFIX + "memory_bytes", "Bytes that a part of the server holds.")
_LIMIT = (OWN_PREFIX + "memory_limit_bytes", "Bytes that it may hold.")


class LedgerMetrics(Collector):
    """`memory_bytes{part}` and `memory_limit_bytes{part}`."""

    def __init__(self, registry: CollectorRegistry, ledger: Ledger, model_name: str) -> None:
        self._ledger = ledger
        self._model_name = model_name
        registry.register(self)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        used = GaugeMetricFamily(*_USED, labels=["model_name", "part"])
        limit = GaugeMetricFamily(*_LIMIT, labels=["model_name", "part"])
        for entry in self._ledger:
            used.add_metric([self._model_name, entry.part], entry.used_bytes)
            limit.add_metric([self._model_name, entry.part], entry.limit_bytes)
        yield used
        yield limit
