"""Figures as lines of text. Pure; knows no terminal: the same lines would do in a log."""

from __future__ import annotations

from collections.abc import Sequence

from kvik.cli.top.figures import Figures, MemoryLine, Percentiles
from kvik.cli.top.source import LiveRequest, Snapshot

COLUMNS = ("request", "state", "waits for", "age", "prompt", "cached", "output", "blocks", "preempted")
_BAR_CELLS = 20
_NOTHING = "-"


def state_line(snapshot: Snapshot, url: str) -> str:
    detail = f": {snapshot.detail}" if snapshot.detail else ""
    return f"{url}  {snapshot.status}{detail}"


def figure_lines(figures: Figures) -> list[str]:
    waiting_for = ", ".join(f"{what} {count}" for what, count in figures.waiting_for.items())
    return [
        f"running  {_int(figures.num_running)}   waiting  {_int(figures.num_waiting)}"
        + (f"  for {waiting_for}" if waiting_for else ""),
        f"tokens/s  prompt {_rate(figures.prompt_tokens_per_s)}   generated {_rate(figures.generated_tokens_per_s)}",
        f"KV cache  {_bar(figures.kv_cache_usage)}   prefix cache hits {_share(figures.prefix_cache_hit_rate)}",
        f"TTFT  {_latency(figures.time_to_first_token)}",
        f"ITL   {_latency(figures.inter_token_latency)}",
    ]


def memory_lines(memory: Sequence[MemoryLine]) -> list[str]:
    """One line per part of the ledger, the largest first."""
    width = max((len(line.part) for line in memory), default=0)
    return [_memory_line(line, width) for line in sorted(memory, key=lambda m: -m.used_bytes)]


def request_row(request: LiveRequest) -> tuple[str, ...]:
    """A cell for each of `COLUMNS`."""
    counts = (
        request.num_prompt_tokens,
        request.num_cached_tokens,
        request.num_output_tokens,
        "?" if request.num_blocks is None else request.num_blocks,
        request.num_preemptions,
    )
    name = request.request_id + (f" [{request.index}]" if request.index else "")
    return (name, request.state, request.waiting_for, f"{request.age_s:.1f} s", *map(str, counts))


def _memory_line(line: MemoryLine, width: int) -> str:
    used = f"{line.part:<{width}}  {_bytes(line.used_bytes):>10}"
    if line.limit_bytes is None or line.limit_bytes == line.used_bytes:
        return used
    return f"{used} of {_bytes(line.limit_bytes)}"


def _latency(values: Percentiles | None) -> str:
    if values is None:
        return "nothing in the last minute"
    named = (("p50", values.p50_s), ("p90", values.p90_s), ("p99", values.p99_s))
    shown = "   ".join(f"{name} {_seconds(value)}" for name, value in named)
    return f"{shown}   ({values.num_values} in the last minute)"


def _seconds(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def _bar(share: float | None) -> str:
    if share is None:
        return _NOTHING
    filled = round(min(max(share, 0.0), 1.0) * _BAR_CELLS)
    return "█" * filled + "░" * (_BAR_CELLS - filled) + f" {share:.1%}"


def _bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.2f} GiB"


def _share(share: float | None) -> str:
    return _NOTHING if share is None else f"{share:.1%}"


def _rate(rate: float | None) -> str:
    return _NOTHING if rate is None else f"{rate:,.1f}"


def _int(count: int | None) -> str:
    return _NOTHING if count is None else str(count)
