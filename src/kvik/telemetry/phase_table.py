"""The phases of a start as a table: one line each, on one clock for both processes."""

from __future__ import annotations

from collections.abc import Sequence

from kvik.messages import Phase

_MIB = 2**20


def phase_table(phases: Sequence[Phase]) -> str:
    """Phases in the order of their start: when they began, how long they took, and their share of the whole.

    Times are seconds since the first phase began. Phases overlap, within a process and across processes, so the
    shares do not add up to 100 %. The last line is the span from the first beginning to the last end.
    """
    if not phases:
        return "no phases"
    ordered = sorted(phases, key=lambda p: (p.start_s, -p.end_s))
    first_s, last_s = ordered[0].start_s, max(p.end_s for p in ordered)
    rows = [_row(p, first_s, last_s - first_s) for p in ordered]
    rows.append(("total", "", "0.000", f"{last_s - first_s:.3f}", "100%", ""))
    return _aligned([("phase", "process", "start s", "took s", "share", "MiB"), *rows])


def _row(phase: Phase, first_s: float, total_s: float) -> tuple[str, ...]:
    took_s = phase.end_s - phase.start_s
    share = 100 * took_s / total_s if total_s > 0 else 0.0
    size = f"{phase.num_bytes / _MIB:.1f}" if phase.num_bytes else ""
    return phase.name, phase.process, f"{phase.start_s - first_s:.3f}", f"{took_s:.3f}", f"{share:.0f}%", size


def _aligned(rows: Sequence[tuple[str, ...]]) -> str:
    """Columns under each other: the first two to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
