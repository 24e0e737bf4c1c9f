"""From answers to numbers: throughputs, and mean, median, deviation and percentiles of four latencies.

Definitions are those of the field's `bench serve`. TTFT: from sending a request to its first token. TPOT: from its
first token to its last, over the tokens after the first. ITL: each gap between chunks. E2EL: from sending to the last.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kvik.bench.answer import Answer
from kvik.errors import ConfigError

METRICS = ("ttft", "tpot", "itl", "e2el")


@dataclass(frozen=True)
class Spread:
    """One latency over a run, milliseconds. All 0 where nothing was measured."""

    mean: float
    median: float
    std: float
    percentiles: tuple[tuple[float, float], ...]
    """(percent, milliseconds)."""


@dataclass(frozen=True)
class Summary:
    """One run. Counts and throughputs are of successful requests."""

    duration_s: float
    num_completed: int
    num_failed: int
    num_input_tokens: int
    num_output_tokens: int
    request_goodput: float | None
    """Requests per second that met every --goodput limit; None where there are none."""
    max_output_tokens_per_s: float
    """Tokens in the best second."""
    max_concurrent_requests: int
    """Requests in the fullest second."""
    spreads: Mapping[str, Spread]
    """By the names of `METRICS`."""

    @property
    def request_throughput(self) -> float:
        return self.num_completed / self.duration_s

    @property
    def output_throughput(self) -> float:
        return self.num_output_tokens / self.duration_s

    @property
    def total_token_throughput(self) -> float:
        return (self.num_input_tokens + self.num_output_tokens) / self.duration_s


def summarise(
    answers: Sequence[Answer],
    duration_s: float,
    percents: Sequence[float] = (99.0,),
    goodput_ms: Mapping[str, float] | None = None,
) -> Summary:
    """`goodput_ms` maps names of `METRICS` (but "itl", which a request has many of) to limits."""
    good = [a for a in answers if a.is_success]
    per_second = [_tokens_by_second(good), _requests_by_second(good)]
    met = None if goodput_ms is None else sum(_meets(a, goodput_ms) for a in good) / duration_s
    return Summary(
        duration_s=duration_s,
        num_completed=len(good),
        num_failed=len(answers) - len(good),
        num_input_tokens=sum(a.num_prompt_tokens for a in good),
        num_output_tokens=sum(a.num_output_tokens for a in good),
        request_goodput=met,
        max_output_tokens_per_s=float(max(per_second[0].values(), default=0)),
        max_concurrent_requests=max(per_second[1].values(), default=0),
        spreads={name: spread_ms(values, percents) for name, values in latencies_s(good).items()},
    )


def latencies_s(answers: Sequence[Answer]) -> dict[str, list[float]]:
    """Every value of each metric; a request of one token has no TPOT."""
    return {
        "ttft": [a.ttft_s for a in answers],
        "tpot": [t for a in answers if (t := a.tpot_s) is not None],
        "itl": [gap for a in answers for gap in a.itl_s],
        "e2el": [a.latency_s for a in answers],
    }


def spread_ms(values_s: Sequence[float], percents: Sequence[float]) -> Spread:
    """Of seconds, in milliseconds."""
    if not values_s:
        return Spread(0.0, 0.0, 0.0, tuple((p, 0.0) for p in percents))
    ordered = sorted(1e3 * v for v in values_s)
    mean = math.fsum(ordered) / len(ordered)
    variance = math.fsum((v - mean) ** 2 for v in ordered) / len(ordered)
    at = tuple((p, percentile(ordered, p)) for p in percents)
    return Spread(mean, percentile(ordered, 50), math.sqrt(variance), at)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Of ascending values, interpolated linearly between neighbours (as numpy does it)."""
    place = (len(ordered) - 1) * percent / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def parse_percents(text: str) -> tuple[float, ...]:
    """ "50,99.9". Raises `ConfigError`."""
    try:
        percents = tuple(float(word) for word in text.split(","))
    except ValueError:
        percents = (-1.0,)
    if not all(0 <= p <= 100 for p in percents):
        raise ConfigError(f"--metric-percentiles takes numbers from 0 to 100 with commas between, got {text!r}")
    return percents


def parse_metrics(text: str) -> tuple[str, ...]:
    """ "ttft,itl". Raises `ConfigError`."""
    names = tuple(word.strip() for word in text.split(",") if word.strip())
    if unknown := [name for name in names if name not in METRICS]:
        raise ConfigError(f"--percentile-metrics: {', '.join(unknown)} is none of {', '.join(METRICS)}")
    return names


def parse_goodput(words: Sequence[str]) -> dict[str, float] | None:
    """ "ttft:200", "e2el:5000" -> milliseconds by name; None for no words. Raises `ConfigError`."""
    limits: dict[str, float] = {}
    for word in words:
        name, _, number = word.partition(":")
        try:
            limits[name] = float(number)
        except ValueError:
            limits[name] = -1.0
        if name not in ("ttft", "tpot", "e2el") or not limits[name] >= 0:
            raise ConfigError(f"--goodput takes ttft:MS, tpot:MS or e2el:MS, got {word!r}")
    return limits or None


def _meets(answer: Answer, limits_ms: Mapping[str, float]) -> bool:
    values: dict[str, float] = {"ttft": answer.ttft_s, "tpot": answer.tpot_s or 0.0, "e2el": answer.latency_s}
    return all(1e3 * values[name] <= limit for name, limit in limits_ms.items())


def _tokens_by_second(answers: Sequence[Answer]) -> dict[int, int]:
    """Second of the clock -> tokens that came in it: a chunk's tokens are spread evenly over the request's chunks."""
    start_s = min((a.sent_s for a in answers), default=0.0)
    counts: dict[int, float] = {}
    for answer in answers:
        at_s, per_chunk = answer.sent_s - start_s + answer.ttft_s, answer.num_output_tokens / (len(answer.itl_s) + 1)
        for gap in (0.0, *answer.itl_s):
            at_s += gap
            counts[int(at_s)] = counts.get(int(at_s), 0.0) + per_chunk
    return {second: round(count) for second, count in counts.items()}


def _requests_by_second(answers: Sequence[Answer]) -> dict[int, int]:
    start_s = min((a.sent_s for a in answers), default=0.0)
    counts: dict[int, int] = {}
    for answer in answers:
        first = answer.sent_s - start_s
        for second in range(int(first), int(first + answer.latency_s) + 1):
            counts[second] = counts.get(second, 0) + 1
    return counts


def percentile_key(percent: float) -> str:
    """ "p99", "p99.9"."""
    return f"p{percent:g}"


def metric_fields(name: str, spread: Spread) -> dict[str, Any]:
    """One metric under the keys of a result file: mean_ttft_ms, p99_ttft_ms, ..."""
    fields: dict[str, Any] = {f"mean_{name}_ms": spread.mean, f"median_{name}_ms": spread.median}
    fields[f"std_{name}_ms"] = spread.std
    return fields | {f"{percentile_key(p)}_{name}_ms": value for p, value in spread.percentiles}
