"""How many requests wait, in front of the engine and in it, and what for."""

from __future__ import annotations

from kvik.messages import SchedulerStats, WaitingFor
from kvik.telemetry.metric_maker import MetricMaker

WAITING_REASONS = ("capacity", "deferred")
"""The field's split: those whose turn it is not yet, and those that others overtake."""
WAITED_FOR = ("blocks", "slots", "budget", "grammar", "adapter")
NOBODY = WaitingFor()


def num_deferred(stats: SchedulerStats) -> int:
    """Requests that wait for something else than their turn."""
    waiting = stats.waiting_for or NOBODY
    return waiting.grammar + waiting.adapter


def num_waiting(stats: SchedulerStats) -> int:
    """All that wait; those whose grammar is being compiled stand in no queue yet."""
    return stats.num_waiting + (stats.waiting_for or NOBODY).grammar


class WaitingMetrics:
    """Gauges of three sums that are equal: all, by the field's reasons, and by what is waited for."""

    def __init__(self, make: MetricMaker) -> None:
        self._all = make.gauge("num_requests_waiting", "Requests that wait for their first or next admission.")
        self._by_reason = make.gauges(
            "num_requests_waiting_by_reason", "The same: for their turn, or overtaken.", "reason", WAITING_REASONS
        )
        self._by_lack = make.gauges(
            "num_requests_waiting_for", "The same, by what is not there for them.", "resource", WAITED_FOR
        )

    def set(self, stats: SchedulerStats) -> None:
        deferred, waiting = num_deferred(stats), num_waiting(stats)
        self._all.set(waiting)
        self._by_reason["capacity"].set(waiting - deferred)
        self._by_reason["deferred"].set(deferred)
        waiting_for = stats.waiting_for or NOBODY
        for what, gauge in self._by_lack.items():
            gauge.set(getattr(waiting_for, what))
