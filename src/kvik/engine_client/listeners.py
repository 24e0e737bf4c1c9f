"""Who hears of an engine's steps, and of what became of it and its requests: statistics, and the timeline of starts."""

from __future__ import annotations

import logging
from typing import Protocol

from kvik.messages import SchedulerStats
from kvik.telemetry.log import get_logger, log_once
from kvik.telemetry.stats import IterationStats
from kvik.telemetry.timeline import Timeline

logger = get_logger(__name__)


class StatLogger(Protocol):
    """Hears of every step, and of ends that no step brought (`stats` is None then)."""

    def record(self, stats: SchedulerStats | None, iteration: IterationStats | None) -> None: ...

    def record_sleep(self, level: int | None) -> None:
        """The engine sleeps at `level` now, or is awake."""

    def record_recovery(self, num_requests: int) -> None:
        """The engine has been replaced, and this many requests go on in the new one."""

    def record_rejection(self, reason: str) -> None:
        """A request was turned away, or waited for too long."""


class Listeners:
    """Any of them may be absent."""

    def __init__(self, stat_logger: StatLogger | None, timeline: Timeline | None) -> None:
        self._stat_logger = stat_logger
        self._timeline = timeline

    def step(self, scheduler: SchedulerStats | None, iteration: IterationStats) -> None:
        """Statistics are never worth a stream: what fails here is logged, once."""
        if self._stat_logger is not None:
            try:
                self._stat_logger.record(scheduler, iteration)
            except Exception as error:
                log_once(logger, logging.ERROR, "statistics are incomplete: %r", error)

    def rejection(self, reason: str) -> None:
        if self._stat_logger is not None:
            self._stat_logger.record_rejection(reason)

    def sleep(self, level: int | None) -> None:
        if self._stat_logger is not None:
            self._stat_logger.record_sleep(level)

    def failure(self, error: Exception) -> None:
        """The engine has ended, and the next one is on its way."""
        if self._timeline is not None:
            self._timeline.begin_recovery(str(error))

    def recovery(self, num_requests: int) -> None:
        """The next one is there, and so many requests go on in it."""
        if self._timeline is not None:
            self._timeline.end_recovery()
        if self._stat_logger is not None:
            self._stat_logger.record_recovery(num_requests)

    def death(self) -> None:
        """There is no next one."""
        if self._timeline is not None:
            self._timeline.end_recovery()
