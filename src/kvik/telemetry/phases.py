"""Where the seconds of a start go: spans on the clock that all processes of a machine share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kvik.messages import Phase


class PhaseTimer:
    """Collects the phases of one process. `on_phase` hears of each one as it ends."""

    def __init__(self, process: str, on_phase: Callable[[Phase], None] | None = None) -> None:
        self.process = process
        self.phases: list[Phase] = []
        self._on_phase = on_phase

    @contextmanager
    def phase(self, name: str) -> Iterator[Phase]:
        """Time the body. The yielded `Phase` may be given its `num_bytes`."""
        span = Phase(name=name, process=self.process, start_s=time.monotonic(), end_s=0.0)
        yield span
        span.end_s = time.monotonic()
        self.add(span)

    def add(self, span: Phase) -> None:
        """Record a phase that was measured elsewhere (imports, which are over before a timer can exist)."""
        self.phases.append(span)
        if self._on_phase is not None:
            self._on_phase(span)
