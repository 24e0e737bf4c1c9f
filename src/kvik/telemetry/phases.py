"""Where the seconds of a start go: spans on the clock that all processes of a machine share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kvik.messages import Phase
from kvik.telemetry.process_start import process_start_s


class PhaseTimer:
    """Collects the phases of one process. `on_phase` hears of each one as it begins, goes on and ends."""

    def __init__(self, process: str, on_phase: Callable[[Phase], None] | None = None) -> None:
        self.process = process
        self.phases: list[Phase] = []
        """Those that have ended."""
        self._on_phase = on_phase

    @contextmanager
    def phase(self, name: str, start_s: float | None = None) -> Iterator[Phase]:
        """Time the body, from `start_s` on where that was earlier. The yielded `Phase` may be given its `num_bytes`."""
        span = Phase(name, self.process, time.monotonic() if start_s is None else start_s, None)
        self.tell(span)
        yield span
        span.end_s = time.monotonic()
        self.add(span)

    def add(self, span: Phase) -> None:
        """Record a phase that was measured elsewhere (imports, which are over before a timer can exist)."""
        self.phases.append(span)
        self.tell(span)

    def add_interpreter(self, first_line_s: float) -> None:
        """Record the time from the start of this process to its first line of ours."""
        self.add(Phase("interpreter", self.process, process_start_s(first_line_s), first_line_s))

    def tell(self, span: Phase) -> None:
        """A phase that is in progress has begun, or has come further."""
        if self._on_phase is not None:
            self._on_phase(span)
