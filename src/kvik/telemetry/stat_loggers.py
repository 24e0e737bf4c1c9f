"""Who hears of every engine step: the Prometheus metrics and the periodic log line, behind one manager."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol, Self

from prometheus_client import CollectorRegistry

from kvik.config.engine import EngineConfig
from kvik.config.env import log_stats_interval_s
from kvik.messages import EngineFacts, SchedulerStats
from kvik.telemetry.log_stats import LogStats
from kvik.telemetry.metrics import EngineMetrics
from kvik.telemetry.stats import IterationStats


class StatLogger(Protocol):
    """One listener."""

    def record(self, stats: SchedulerStats | None, iteration: IterationStats | None) -> None: ...

    def record_sleep(self, level: int | None) -> None: ...

    def record_recovery(self, num_requests: int) -> None: ...

    def record_rejection(self, reason: str) -> None: ...


class StatLoggerManager:
    """Passes each step on to all listeners, and ends the log line's intervals. Without listeners it does nothing."""

    def __init__(
        self, loggers: Sequence[StatLogger] = (), log_line: LogStats | None = None, interval_s: float = 10.0
    ) -> None:
        self._loggers = [*loggers, *([log_line] if log_line is not None else [])]
        self._log_line = log_line
        self._interval_s = interval_s

    @classmethod
    def from_config(
        cls,
        config: EngineConfig,
        facts: EngineFacts,
        registry: CollectorRegistry,
        custom_buckets: Mapping[str, Sequence[float]] | None = None,
    ) -> Self:
        """Both listeners, or none where log stats are off. To be made once the engine is ready, once per registry."""
        if not config.observability.log_stats:
            return cls()
        metrics = EngineMetrics(registry, config, facts, custom_buckets)
        return cls([metrics], LogStats(facts.device), log_stats_interval_s())

    @property
    def is_active(self) -> bool:
        """False: nobody listens, and statistics need not be gathered."""
        return bool(self._loggers)

    def record(self, stats: SchedulerStats | None, iteration: IterationStats | None) -> None:
        """Take in one step; cheap, on the path of every step."""
        for logger in self._loggers:
            logger.record(stats, iteration)

    def record_sleep(self, level: int | None) -> None:
        """The engine sleeps at `level` now; None: it is awake."""
        for logger in self._loggers:
            logger.record_sleep(level)

    def record_recovery(self, num_requests: int) -> None:
        """The engine was replaced, and this many requests go on."""
        for logger in self._loggers:
            logger.record_recovery(num_requests)

    def record_rejection(self, reason: str) -> None:
        """A request was turned away, or waited for too long: one of `REJECTION_REASONS`."""
        for logger in self._loggers:
            logger.record_rejection(reason)

    def log(self) -> None:
        """Write the line of the interval that ends now."""
        if self._log_line is not None:
            self._log_line.log()

    async def run(self) -> None:
        """Write a line per interval until cancelled; returns at once where there is none to write."""
        while self._log_line is not None:
            await asyncio.sleep(self._interval_s)
            self.log()
