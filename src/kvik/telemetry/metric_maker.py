"""Makes metrics of an engine under kvik's own prefix, with the labels that nearly all of them carry."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from kvik.telemetry.prefixes import OWN_PREFIX

M = TypeVar("M", Gauge, Counter, Histogram)


class MetricMaker:
    """`model_name` and `engine` are filled in already; so are all values of a further label, so that a rate over a
    quiet hour is 0 and not absent."""

    def __init__(self, registry: CollectorRegistry, model_name: str, engine: str) -> None:
        self._registry, self._model_name, self._engine = registry, model_name, engine

    def gauge(self, name: str, about: str) -> Gauge:
        return self._labelled(Gauge, name, about)

    def counter(self, name: str, about: str) -> Counter:
        return self._labelled(Counter, name, about)

    def histogram(self, name: str, about: str, buckets: Sequence[float]) -> Histogram:
        return self._labelled(Histogram, name, about, buckets=buckets)

    def gauges(self, name: str, about: str, label: str, values: Iterable[str]) -> dict[str, Gauge]:
        return self._split(Gauge, name, about, label, values)

    def counters(self, name: str, about: str, label: str, values: Iterable[str]) -> dict[str, Counter]:
        return self._split(Counter, name, about, label, values)

    def histograms(
        self, name: str, about: str, label: str, values: Iterable[str], buckets: Sequence[float]
    ) -> dict[str, Histogram]:
        return self._split(Histogram, name, about, label, values, buckets=buckets)

    def counters_without_engine(self, name: str, about: str, label: str, values: Iterable[str]) -> dict[str, Counter]:
        metric = Counter(OWN_PREFIX + name, about, ["model_name", label], registry=self._registry)
        return {value: metric.labels(self._model_name, value) for value in values}

    def _labelled(self, kind: type[M], name: str, about: str, **options: Any) -> M:
        labels = ["model_name", "engine"]
        metric = kind(OWN_PREFIX + name, about, labels, registry=self._registry, **options)
        return metric.labels(self._model_name, self._engine)

    def _split(
        self, kind: type[M], name: str, about: str, label: str, values: Iterable[str], **options: Any
    ) -> dict[str, M]:
        labels = ["model_name", "engine", label]
        metric = kind(OWN_PREFIX + name, about, labels, registry=self._registry, **options)
        return {value: metric.labels(self._model_name, self._engine, value) for value in values}
