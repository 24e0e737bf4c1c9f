"""The periodic log line of one engine. Told of every step; says what the last interval was like."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable

from kvik.messages import SchedulerStats, WaitingFor
from kvik.telemetry.draft_stats import DraftStats
from kvik.telemetry.log import get_logger
from kvik.telemetry.stats import IterationStats
from kvik.telemetry.waiting_metrics import WAITED_FOR, num_deferred, num_waiting

logger = get_logger(__name__)

HIT_RATE_WINDOW_REQUESTS = 1000
_DEVICE_WORDS = {"cuda": "GPU"}


class PrefixCacheHitRate:
    """Hit rate in tokens over the most recent steps that looked something up.

    The scheduler reports tokens per step, not per request: a step counts as the one request that most steps admit.
    """

    def __init__(self) -> None:
        self._lookups: deque[tuple[int, int]] = deque(maxlen=HIT_RATE_WINDOW_REQUESTS)

    def add(self, stats: SchedulerStats) -> None:
        if stats.prefix_cache_was_reset:
            self._lookups.clear()
        if stats.prefix_cache_queries:
            self._lookups.append((stats.prefix_cache_queries, stats.prefix_cache_hits))

    @property
    def percent(self) -> float | None:
        """0 to 100; None before the first lookup."""
        queries = sum(q for q, _ in self._lookups)
        return 100 * sum(h for _, h in self._lookups) / queries if queries else None


class LogStats:
    """Gathers steps and logs a line per interval: INFO, or DEBUG once two intervals in a row were idle."""

    def __init__(self, device: str, engine_index: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._prefix = f"Engine {engine_index:03d}: "
        self._device_word = _DEVICE_WORDS.get(device, device.upper())
        self._clock = clock
        self._last = SchedulerStats()
        self._hit_rate = PrefixCacheHitRate()
        self._was_idle = True
        self._start_interval()

    def _start_interval(self) -> None:
        self._num_prompt_tokens = 0
        self._num_generation_tokens = 0
        self._num_preemptions = 0
        self._drafts = DraftStats()
        self._interval_start_s = self._clock()

    def record_recovery(self, num_requests: int) -> None:
        """Has lines of its own in the log."""

    def record_rejection(self, reason: str) -> None:
        """Clients are told."""

    def record_sleep(self, level: int | None) -> None:
        """Nothing to count."""

    def record(self, stats: SchedulerStats | None, iteration: IterationStats | None) -> None:
        """Take in one step."""
        if stats is not None:
            self._last = stats
            self._num_preemptions += stats.num_preemptions
            self._hit_rate.add(stats)
            if stats.spec_decode is not None:
                self._drafts.add(stats.spec_decode)
        if iteration is not None:
            self._num_prompt_tokens += iteration.num_computed_prompt_tokens
            self._num_generation_tokens += iteration.num_generation_tokens

    def log(self) -> None:
        """End the interval with its line, and a second one if tokens were drafted."""
        is_idle = self._num_prompt_tokens + self._num_generation_tokens == 0
        level = logging.DEBUG if is_idle and self._was_idle else logging.INFO
        elapsed_s = max(self._clock() - self._interval_start_s, 1e-9)
        logger.log(level, "%s%s", self._prefix, ", ".join(self._parts(elapsed_s)))
        if self._drafts.num_drafts:
            logger.info("SpecDecoding metrics: %s", ", ".join(self._drafts.parts(elapsed_s)))
        self._was_idle = is_idle
        self._start_interval()

    def _parts(self, elapsed_s: float) -> list[str]:
        parts = [
            f"Avg prompt throughput: {self._num_prompt_tokens / elapsed_s:.1f} tokens/s",
            f"Avg generation throughput: {self._num_generation_tokens / elapsed_s:.1f} tokens/s",
            f"Running: {self._last.num_running} reqs",
            f"Waiting: {num_waiting(self._last)} reqs",
        ]
        if deferred := num_deferred(self._last):
            parts.append(f"Deferred: {deferred} reqs")
        if self._num_preemptions:
            parts.append(f"Preemptions: {self._num_preemptions}")
        parts.append(f"{self._device_word} KV cache usage: {100 * self._last.kv_cache_usage:.1f}%")
        if (percent := self._hit_rate.percent) is not None:
            parts.append(f"Prefix cache hit rate: {percent:.1f}%")
        if self._last.waiting_for is not None:
            parts.append(f"Waiting for: {_in_words(self._last.waiting_for)}")
        return parts


def _in_words(waiting: WaitingFor) -> str:
    counts = ((what, getattr(waiting, what)) for what in WAITED_FOR)
    return " ".join(f"{what} {count}" for what, count in counts if count)
