"""Counts between two reports of the scheduler."""

from __future__ import annotations

from dataclasses import dataclass

from kvik.messages import SchedulerStats


@dataclass(slots=True)
class StepCounters:
    num_preemptions: int = 0
    prefix_cache_queries: int = 0
    """Tokens looked up."""
    prefix_cache_hits: int = 0
    """Tokens found."""
    prefix_cache_was_reset: bool = False

    def take(self, *, num_running: int, num_waiting: int, kv_cache_usage: float) -> SchedulerStats:
        """The report; counting starts again from zero."""
        stats = SchedulerStats(
            num_running=num_running,
            num_waiting=num_waiting,
            kv_cache_usage=kv_cache_usage,
            num_preemptions=self.num_preemptions,
            prefix_cache_queries=self.prefix_cache_queries,
            prefix_cache_hits=self.prefix_cache_hits,
            prefix_cache_was_reset=self.prefix_cache_was_reset,
        )
        self.num_preemptions = self.prefix_cache_queries = self.prefix_cache_hits = 0
        self.prefix_cache_was_reset = False
        return stats
