"""Rounds of figures -> medians, verdicts and Markdown. Knows no server."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.workloads import Bar, Workload

Medians = Mapping[str, Mapping[str, float]]
"""Label -> figure -> median over the rounds."""
UNITS = {
    "output_tok_per_s": "output tok/s", "total_tok_per_s": "tok/s", "ttft_ms": "TTFT ms", "tpot_ms": "TPOT ms",
    "itl_p50_ms": "ITL median ms", "itl_p99_ms": "ITL p99 ms", "itl_p99_over_median": "ITL p99 / median",
    "prefill_tok_per_s": "prefill tok/s", "decode_tok_per_s": "decode tok/s", "lost": "lost", "rss_mb": "RSS MB",
    "peak_rss_mb": "peak RSS MB", "api_cpu_s_per_1000_tokens": "API CPU s / 1,000 tokens", "startup_s": "ready s",
    "cat_s": "cat s", "startup_over_cat": "ready / cat", "long_ttft_ms": "long prompt's TTFT ms",
}  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """One bar, judged."""

    bar: Bar
    value: float | None
    """The figure or the ratio; None where nobody it needs took part."""

    @property
    def is_met(self) -> bool | None:
        if self.value is None:
            return None
        if self.bar.at_least is not None:
            return self.value >= self.bar.at_least
        return self.bar.at_most is not None and self.value <= self.bar.at_most

    @property
    def word(self) -> str:
        return {True: "met", False: "**missed**", None: "not measured"}[self.is_met]


def medians(rounds: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Of each label's figures over the rounds that it has; `lost` is the sum."""
    labels = list(dict.fromkeys(label for r in rounds for label in r))
    result: dict[str, dict[str, float]] = {}
    for label in labels:
        runs = [r[label] for r in rounds if label in r]
        names = list(dict.fromkeys(name for run in runs for name in run))
        result[label] = {name: statistics.median(run[name] for run in runs if name in run) for name in names}
        if "lost" in names:
            result[label]["lost"] = sum(run.get("lost", 0) for run in runs)
    return result


def judge(bar: Bar, found: Medians) -> Verdict:
    """The bar against the medians; against several peers, the best of those that took part."""
    mine = found.get(bar.of, {}).get(bar.metric)
    if mine is None or not bar.against:
        return Verdict(bar, mine)
    others = [found[label][bar.metric] for label in bar.against if bar.metric in found.get(label, {})]
    best = max(others, default=0.0) if bar.at_least is not None else min(others, default=0.0)
    return Verdict(bar, mine / best if best else None)


def section(workload: Workload, found: Medians, skipped: Mapping[str, str], roofs: Mapping[str, str]) -> str:
    """One workload: a row per contestant with ratios to the first, then its bars."""
    columns = [name for name in workload.shown if any(name in row for row in found.values())]
    head = ["", *(UNITS[name] for name in columns), *(["roofline"] if roofs else [])]
    lines = [f"### {workload.title}", "", _row(head), _row(["---"] * len(head))]
    first = next(iter(found.values()), {})
    for label, row in found.items():
        cells = [_cell(name, row, None if row is first else first) for name in columns]
        lines.append(_row([label, *cells, *([roofs.get(label, "")] if roofs else [])]))
    lines += ["", *(f"- {label}: left out, {why}" for label, why in skipped.items())]
    lines += [_verdict_line(judge(bar, found)) for bar in workload.bars]
    return "\n".join(lines).rstrip() + "\n"


def _cell(name: str, row: Mapping[str, float], first: Mapping[str, float] | None) -> str:
    """The median, and how many times kvik's first row it is."""
    if name not in row:
        return ""
    value = number(row[name])
    if first is None or not first.get(name) or name in ("lost", "itl_p99_over_median"):
        return value
    return f"{value} ({row[name] / first[name]:.2f} x)"


def _verdict_line(verdict: Verdict) -> str:
    value = "" if verdict.value is None else f", measured {number(verdict.value)}"
    return f"- {verdict.bar.of}, {verdict.bar.text}{value}: {verdict.word}"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def number(value: float) -> str:
    """Three digits that count, and no more."""
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
