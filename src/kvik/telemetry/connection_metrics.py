"""Prometheus metrics of connections that the server had to end. Knows no HTTP."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

from kvik.telemetry.prefixes import OWN_PREFIX


class ConnectionMetrics:
    """Counters to be raised by whoever ends a connection. One per registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.slow_clients_ended = Counter(
            OWN_PREFIX + "slow_clients_ended", "Connections ended as nothing of an answer was taken.", registry=registry
        )
        self.slow_requests_ended = Counter(
            OWN_PREFIX + "slow_requests_ended", "Connections ended as a request came too slowly.", registry=registry
        )
