"""What two scrapes say together: rates, shares and percentiles of the time between them. Pure; knows no terminal."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from kvik.cli.top.scrape import Scrape

RATE_WINDOW_S = 5.0
"""Tokens per second are those of the last seconds; shorter ones would jump with every step."""
LATENCY_WINDOW_S = 60.0
"""Percentiles and hit rates want more than a few requests."""


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Seconds, as far as the buckets tell them apart."""

    p50_s: float
    p90_s: float
    p99_s: float
    num_values: int


@dataclass(frozen=True, slots=True)
class MemoryLine:
    part: str
    used_bytes: int
    limit_bytes: int | None


@dataclass(frozen=True, slots=True)
class Figures:
    """None: this server does not say, or nothing happened in the window."""

    num_running: int | None
    num_waiting: int | None
    waiting_for: Mapping[str, int]
    """What there is too little of -> requests that wait for it; only what anybody waits for."""
    prompt_tokens_per_s: float | None
    generated_tokens_per_s: float | None
    kv_cache_usage: float | None
    prefix_cache_hit_rate: float | None
    time_to_first_token: Percentiles | None
    inter_token_latency: Percentiles | None
    memory: tuple[MemoryLine, ...]


class History:
    """Scrapes of the last minute and when they came."""

    def __init__(self) -> None:
        self._scrapes: deque[tuple[float, Scrape]] = deque()

    def add(self, at_s: float, scrape: Scrape) -> None:
        """The oldest one kept is the first that is a whole window old."""
        self._scrapes.append((at_s, scrape))
        while len(self._scrapes) > 1 and self._scrapes[1][0] <= at_s - LATENCY_WINDOW_S:
            self._scrapes.popleft()

    def clear(self) -> None:
        """The server went away: its counters begin anew, and the gap was no time of serving."""
        self._scrapes.clear()

    def figures(self) -> Figures | None:
        """Of the newest scrape; None before the first."""
        if not self._scrapes:
            return None
        now_s, now = self._scrapes[-1]
        lately_s, lately = self._since(now_s - RATE_WINDOW_S)
        _, before = self._since(now_s - LATENCY_WINDOW_S)
        seconds = now_s - lately_s
        return Figures(
            num_running=_count(now.total("num_requests_running")),
            num_waiting=_count(now.total("num_requests_waiting")),
            waiting_for=_waiting_for(now),
            prompt_tokens_per_s=_rate(lately, now, "prompt_tokens_by_source_total", seconds, source="local_compute"),
            generated_tokens_per_s=_rate(lately, now, "generation_tokens_total", seconds),
            kv_cache_usage=now.highest("kv_cache_usage_perc"),
            prefix_cache_hit_rate=_hit_rate(before, now),
            time_to_first_token=_percentiles(before, now, "time_to_first_token_seconds"),
            inter_token_latency=_percentiles(before, now, "inter_token_latency_seconds"),
            memory=_memory(now),
        )

    def _since(self, start_s: float) -> tuple[float, Scrape]:
        """The newest scrape that is at least so old, or the oldest there is."""
        old_enough = [one for one in self._scrapes if one[0] <= start_s]
        return old_enough[-1] if old_enough else self._scrapes[0]


def increase(before: float, now: float) -> float:
    """Of a counter. One that fell began anew, and has counted `now` since."""
    return now - before if now >= before else now


def quantile(share: float, counts: Mapping[float, float]) -> float | None:
    """Of a histogram's buckets (upper bound -> observations up to it, bounds rising): linear within a bucket.

    None where it is empty. Beyond the last finite bound nothing is known, and that bound is the answer.
    """
    total = max(counts.values(), default=0.0)
    if total <= 0:
        return None
    low, below = 0.0, 0.0
    for bound, up_to in counts.items():
        if up_to >= share * total and up_to > below:
            return low if math.isinf(bound) else low + (bound - low) * (share * total - below) / (up_to - below)
        low, below = (low if math.isinf(bound) else bound), max(below, up_to)
    return low


def _percentiles(before: Scrape, now: Scrape, name: str) -> Percentiles | None:
    old, new = before.buckets(name), now.buckets(name)
    began_anew = any(new[bound] < old.get(bound, 0.0) for bound in new)
    counts = {bound: value - (0.0 if began_anew else old.get(bound, 0.0)) for bound, value in new.items()}
    p50, p90, p99 = (quantile(share, counts) for share in (0.5, 0.9, 0.99))
    if p50 is None or p90 is None or p99 is None:
        return None
    return Percentiles(p50, p90, p99, int(max(counts.values())))


def _rate(before: Scrape, now: Scrape, name: str, seconds: float, **labels: str) -> float | None:
    new, old = now.total(name, **labels), before.total(name, **labels)
    if new is None or seconds <= 0:
        return None
    return increase(old or 0.0, new) / seconds


def _hit_rate(before: Scrape, now: Scrape) -> float | None:
    asked, found = (
        increase(before.total(name) or 0.0, now.total(name) or 0.0)
        for name in ("prefix_cache_queries_total", "prefix_cache_hits_total")
    )
    return found / asked if asked > 0 else None


def _waiting_for(now: Scrape) -> dict[str, int]:
    """By what is missing where the server says it, or else by the field's two reasons."""
    by_lack = now.by_label("num_requests_waiting_for", "resource")
    counts = by_lack or now.by_label("num_requests_waiting_by_reason", "reason")
    return {what: int(count) for what, count in counts.items() if count > 0}


def _memory(now: Scrape) -> tuple[MemoryLine, ...]:
    limits = now.by_label("memory_limit_bytes", "part")
    return tuple(
        MemoryLine(part, int(used), int(limits[part]) if part in limits else None)
        for part, used in now.by_label("memory_bytes", "part").items()
    )


def _count(value: float | None) -> int | None:
    return None if value is None else int(value)
