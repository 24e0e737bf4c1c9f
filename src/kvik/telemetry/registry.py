"""Where all metrics of a server stand, and what GET /metrics answers: those of the engine under every prefix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from kvik.telemetry.prefixes import DEFAULT_PREFIXES, OWN_PREFIX

CONTENT_TYPE = "text/plain; version=1.0.0; charset=utf-8"


class PrefixedRegistry(CollectorRegistry):
    """A registry that shows metrics of `OWN_PREFIX` once under each of `prefixes`, with the same values."""

    def __init__(self, prefixes: Sequence[str] = DEFAULT_PREFIXES) -> None:
        super().__init__()
        self._prefixes = tuple(prefixes)

    def collect(self) -> Iterator[Metric]:
        own: list[Metric] = []
        for family in super().collect():
            if family.name.startswith(OWN_PREFIX):
                own.append(family)
            else:
                yield family
        for prefix in self._prefixes:
            for family in own:
                yield family if prefix == OWN_PREFIX else _renamed(family, prefix)


def _renamed(family: Metric, prefix: str) -> Metric:
    start = len(OWN_PREFIX)
    renamed = Metric(prefix + family.name[start:], family.documentation, family.type, family.unit)
    renamed.samples = [sample._replace(name=prefix + sample.name[start:]) for sample in family.samples]
    return renamed


def create_registry(prefixes: Sequence[str] = DEFAULT_PREFIXES) -> CollectorRegistry:
    """A registry of its own, with the usual python_* and process_* metrics in it."""
    registry = PrefixedRegistry(prefixes)
    GCCollector(registry)
    PlatformCollector(registry)
    ProcessCollector(registry=registry)
    return registry


def render(registry: CollectorRegistry) -> bytes:
    """What GET /metrics answers, of the type `CONTENT_TYPE`."""
    return generate_latest(registry)
