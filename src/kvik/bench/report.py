"""A run in words and as JSON, laid out and keyed as the field knows it from `bench serve`. Measures nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from kvik.bench.answer import Answer
from kvik.bench.load import Load
from kvik.bench.metrics import METRICS, Spread, Summary, metric_fields, percentile_key

WIDTH = 50
LABEL_WIDTH = 40
TITLES = {
    "ttft": ("TTFT", "Time to First Token"),
    "tpot": ("TPOT", "Time per Output Token (excl. 1st token)"),
    "itl": ("ITL", "Inter-token Latency"),
    "e2el": ("E2EL", "End-to-end Latency"),
}


def report(summary: Summary, load: Load, metrics: Sequence[str]) -> str:
    """The printed table; sections for `metrics` only."""
    lines = ["{s:{c}^{n}}".format(s=" Serving Benchmark Result ", n=WIDTH, c="=")]
    lines += [f"{label + ':':<{LABEL_WIDTH}} {_number(value):<10}".rstrip() for label, value in _rows(summary, load)]
    for name in (m for m in METRICS if m in metrics):
        lines += _section(name, summary.spreads[name])
    return "\n".join([*lines, "=" * WIDTH])


def _rows(s: Summary, load: Load) -> Iterator[tuple[str, float | int | None]]:
    yield "Successful requests", s.num_completed
    yield "Failed requests", s.num_failed
    if load.max_concurrency is not None:
        yield "Maximum request concurrency", load.max_concurrency
    if load.request_rate != float("inf"):
        yield "Request rate configured (RPS)", load.request_rate
    yield "Benchmark duration (s)", s.duration_s
    yield "Total input tokens", s.num_input_tokens
    yield "Total generated tokens", s.num_output_tokens
    yield "Request throughput (req/s)", s.request_throughput
    if s.request_goodput is not None:
        yield "Request goodput (req/s)", s.request_goodput
    yield "Output token throughput (tok/s)", s.output_throughput
    yield "Peak output token throughput (tok/s)", s.max_output_tokens_per_s
    yield "Peak concurrent requests", float(s.max_concurrent_requests)
    yield "Total token throughput (tok/s)", s.total_token_throughput


def _section(name: str, spread: Spread) -> list[str]:
    short, title = TITLES[name]
    rows = [("Mean", spread.mean), ("Median", spread.median)]
    rows += [(percentile_key(p).upper(), value) for p, value in spread.percentiles]
    return [
        f"{title:-^{WIDTH}}",
        *(f"{f'{what} {short} (ms):':<{LABEL_WIDTH}} {value:<10.2f}".rstrip() for what, value in rows),
    ]


def _number(value: float | int | None) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def result_fields(summary: Summary, answers: Sequence[Answer]) -> dict[str, Any]:
    """What was measured, for a JSON file."""
    fields: dict[str, Any] = {
        "duration": summary.duration_s,
        "completed": summary.num_completed,
        "failed": summary.num_failed,
        "total_input_tokens": summary.num_input_tokens,
        "total_output_tokens": summary.num_output_tokens,
        "request_throughput": summary.request_throughput,
        "request_goodput": summary.request_goodput,
        "output_throughput": summary.output_throughput,
        "total_token_throughput": summary.total_token_throughput,
        "max_output_tokens_per_s": summary.max_output_tokens_per_s,
        "max_concurrent_requests": summary.max_concurrent_requests,
    }
    for name in METRICS:
        fields |= metric_fields(name, summary.spreads[name])
    return fields | {"failures": dict(failures(answers))}


def detailed_fields(answers: Sequence[Answer]) -> dict[str, Any]:
    """One entry per request, in their order. Seconds; `start_times` are of the client's clock."""
    return {
        "input_lens": [a.num_prompt_tokens for a in answers],
        "output_lens": [a.num_output_tokens for a in answers],
        "ttfts": [a.ttft_s for a in answers],
        "itls": [a.itl_s for a in answers],
        "latencies": [a.latency_s for a in answers],
        "start_times": [a.sent_s for a in answers],
        "generated_texts": [a.text for a in answers],
        "errors": [a.error for a in answers],
    }


def failures(answers: Sequence[Answer]) -> list[tuple[str, int]]:
    """Reason and count of the requests that failed, the most frequent first."""
    return Counter(a.error for a in answers if a.error).most_common()


def failure_lines(answers: Sequence[Answer]) -> list[str]:
    return [f"{count} failed: {reason}" for reason, count in failures(answers)]
