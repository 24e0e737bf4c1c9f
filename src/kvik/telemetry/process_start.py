"""When this process began, on the clock of the phases. Knows Linux' /proc, and what to do without it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

MAX_INTERPRETER_START_S = 10.0
"""A process that is older than this at our first line was something else before, a shell that ended in `exec`."""

_START_TICKS = 22 - 3
"""The field "starttime" of proc(5), counted from the first one behind the name of the program."""


def process_start_s(
    first_line_s: float, read_stat: Callable[[], str] = lambda: Path("/proc/self/stat").read_text(errors="replace")
) -> float:
    """Seconds of CLOCK_MONOTONIC, to 10 ms; `first_line_s`, of the same clock, where nothing better can be known.

    The system tells when a process was made, in ticks since the machine's start: `exec` keeps it, and whoever starts
    a program makes the process just before. Time that the machine slept is in those ticks and not in our clock.
    """
    try:
        ticks = start_ticks(read_stat())
        slept_s = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
        start_s = (ticks + 0.5) / os.sysconf("SC_CLK_TCK") - slept_s
    except (OSError, ValueError, IndexError, AttributeError):
        return first_line_s
    if not 0 <= first_line_s - start_s <= MAX_INTERPRETER_START_S:
        return first_line_s
    return start_s


def start_ticks(stat: str) -> int:
    """From the text of /proc/PID/stat. The name of a program may hold blanks and brackets. Raises ValueError."""
    _, bracket, rest = stat.rpartition(")")
    if not bracket:
        raise ValueError("no name in brackets")
    return int(rest.split()[_START_TICKS])
