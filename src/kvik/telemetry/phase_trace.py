"""The phases of a start as a trace file: the JSON of trace events that Perfetto and chrome://tracing read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from kvik.messages import Phase
from kvik.telemetry.log import get_logger

logger = get_logger(__name__)


def write_trace(path: str, phases: Sequence[Phase], began_s: float) -> None:
    """Never raises: a file that cannot be written is a line in the log."""
    content = msgspec.json.encode(trace_of(phases, began_s))
    try:
        Path(path).write_bytes(content)
    except OSError as error:
        logger.warning("--startup-trace %s cannot be written: %s", path, error.strerror or error)


def trace_of(phases: Sequence[Phase], began_s: float) -> dict[str, Any]:
    """Microseconds since `began_s`. A process of ours is a process there, and phases that overlap are on lines of their
    own; what is in progress has a beginning only."""
    processes = list(dict.fromkeys(phase.process for phase in sorted(phases, key=lambda p: p.start_s)))
    events: list[dict[str, Any]] = []
    for pid, process in enumerate(processes, 1):
        events.append({"name": "process_name", "ph": "M", "pid": pid, "tid": 0, "args": {"name": process}})
        for tid, lane in enumerate(lanes(p for p in phases if p.process == process)):
            events += [_event(phase, pid, tid, began_s) for phase in lane]
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def lanes(phases: Iterable[Phase]) -> list[list[Phase]]:
    """The phases in as few lines as a simple search finds, so that any two of a line are nested or apart."""
    found: list[list[Phase]] = []
    for phase in sorted(phases, key=lambda p: (p.start_s, -_end_of(p))):
        lane = next((lane for lane in found if all(_fits(other, phase) for other in lane)), None)
        if lane is None:
            found.append([phase])
        else:
            lane.append(phase)
    return found


def _fits(earlier: Phase, later: Phase) -> bool:
    return _end_of(earlier) <= later.start_s or _end_of(later) <= _end_of(earlier)


def _end_of(phase: Phase) -> float:
    return float("inf") if phase.end_s is None else phase.end_s


def _event(phase: Phase, pid: int, tid: int, began_s: float) -> dict[str, Any]:
    event: dict[str, Any] = {
        "name": phase.name, "cat": "start", "ph": "B" if phase.end_s is None else "X",
        "ts": round((phase.start_s - began_s) * 1e6, 1), "pid": pid, "tid": tid,
        "args": {"bytes": phase.num_bytes} if phase.num_bytes else {},
    }  # fmt: skip
    if phase.end_s is not None:
        event["dur"] = round(phase.seconds * 1e6, 1)
    return event
