"""The phases of a start as text: one line each, on one clock for both processes, each with its bar."""

from __future__ import annotations

from collections.abc import Sequence

from kvik.messages import Phase

_MIB = 2**20
HEADINGS = ("phase", "process", "start s", "took s", "share", "MiB", "")
BAR_WIDTH = 40
"""Characters that the whole start is wide."""


def phase_table(phases: Sequence[Phase], began_s: float | None = None) -> str:
    """Phases in the order of their start: when they began, how long they took, and their share of the whole.

    Times are seconds since `began_s`, or else since the first phase began. Phases overlap, within a process and across
    processes, so the shares do not add up to 100 %. The last line is the span from the beginning to the last end.
    Phases in progress are left out.
    """
    rows = table_rows(phases, began_s)
    if not rows:
        return "no phases"
    return _aligned([HEADINGS, *rows])


def table_rows(
    phases: Sequence[Phase], began_s: float | None = None, bar_width: int = BAR_WIDTH
) -> list[tuple[str, ...]]:
    """What stands below `HEADINGS`, of each phase, the bar at the end; the last row is the total."""
    ordered = sorted((p for p in phases if p.end_s is not None), key=lambda p: (p.start_s, -p.seconds))
    if not ordered:
        return []
    first_s = ordered[0].start_s if began_s is None else began_s
    total_s = max(p.start_s + p.seconds for p in ordered) - first_s
    rows = [_row(p, first_s, total_s, bar_width) for p in ordered]
    return [*rows, ("total", "", "0.000", f"{total_s:.3f}", "100%", "", "")]


def _row(phase: Phase, first_s: float, total_s: float, bar_width: int) -> tuple[str, ...]:
    start_s = phase.start_s - first_s
    share = 100 * phase.seconds / total_s if total_s > 0 else 0.0
    size = f"{phase.num_bytes / _MIB:.1f}" if phase.num_bytes else ""
    name = f"  {phase.name.partition(': ')[2]}" if phase.is_part else phase.name
    bar = bar_of(start_s, phase.seconds, total_s, bar_width)
    return name, phase.process, f"{start_s:.3f}", f"{phase.seconds:.3f}", f"{share:.0f}%", size, bar


def bar_of(start_s: float, seconds: float, total_s: float, width: int = BAR_WIDTH) -> str:
    """Blanks, then at least one sign where the phase lies on the whole."""
    if total_s <= 0:
        return "#"
    first = min(width - 1, max(0, int(start_s / total_s * width)))
    end = min(width, max(first + 1, round((start_s + seconds) / total_s * width)))
    return " " * first + "#" * (end - first)


def _aligned(rows: Sequence[tuple[str, ...]]) -> str:
    """Columns under each other: the first two and the bar to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(w) if i in (0, 1, len(row) - 1) else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
