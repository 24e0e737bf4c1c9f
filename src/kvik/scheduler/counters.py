"""Counts between two reports of the scheduler."""

from __future__ import annotations

from dataclasses import dataclass

from kvik.messages import SchedulerStats, SpecDecodeStats


@dataclass(slots=True)
class StepCounters:
    num_preemptions: int = 0
    prefix_cache_queries: int = 0
    """Tokens looked up."""
    prefix_cache_hits: int = 0
    """Tokens found."""
    prefix_cache_was_reset: bool = False
    spec_decode: SpecDecodeStats | None = None

    def count_draft(self, num_draft_tokens: int, num_accepted: int) -> None:
        """A request's drafts were checked."""
        stats = self.spec_decode = self.spec_decode or SpecDecodeStats()
        stats.num_drafts += 1
        stats.num_draft_tokens += num_draft_tokens
        stats.num_accepted_tokens += num_accepted
        per_pos = stats.num_accepted_tokens_per_pos
        per_pos += [0] * (num_draft_tokens - len(per_pos))
        for place in range(num_accepted):
            per_pos[place] += 1

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
            spec_decode=self.spec_decode,
        )
        self.num_preemptions = self.prefix_cache_queries = self.prefix_cache_hits = 0
        self.prefix_cache_was_reset = False
        self.spec_decode = None
        return stats
