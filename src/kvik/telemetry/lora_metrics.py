"""Which adapters are in use, as a metric."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Gauge

from kvik.telemetry.prefixes import OWN_PREFIX


class LoraInfo:
    """A gauge whose labels say which adapters are in use; its value is when that was so, in Unix time.

    As others have it, each set of names has a series of its own. Here only the newest is kept: names come and go.
    """

    def __init__(self, registry: CollectorRegistry, max_loras: int, clock: Callable[[], float] = time.time) -> None:
        self._gauge = Gauge(
            OWN_PREFIX + "lora_requests_info",
            "Adapters of running and of waiting requests; the value is the Unix time of the newest step.",
            ["max_lora", "waiting_lora_adapters", "running_lora_adapters"],
            registry=registry,
        )
        self._max_loras = str(max_loras)
        self._clock = clock
        self._last: tuple[list[str], list[str]] | None = None
        self.record([], [])

    def record(self, running: list[str], waiting: list[str]) -> None:
        if self._last != (running, waiting):
            self._gauge.clear()
            self._last = running, waiting
        self._gauge.labels(self._max_loras, ",".join(waiting), ",".join(running)).set(self._clock())
