"""Where the time of the engine's loop goes. Knows no step: whoever works says which part has just ended."""

from __future__ import annotations

import time
from collections.abc import Callable

from kvik.messages import StepTimes

NS_PER_S = 1_000_000_000


class StepClock:
    """`go`, then after each part of the work its method: the time since the last call is that part's.

    What comes between a step and the next one belongs to the next one. A call costs a fraction of a microsecond.
    """

    def __init__(self, clock_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        self._clock_ns = clock_ns
        self._last_ns = clock_ns()
        self._times = StepTimes()

    def go(self) -> None:
        """What was until now is no part of anything."""
        self._last_ns = self._clock_ns()

    def _lap_s(self) -> float:
        now_ns = self._clock_ns()
        lap_ns, self._last_ns = now_ns - self._last_ns, now_ns
        return lap_ns / NS_PER_S

    def scheduled(self) -> None:
        self._times.schedule_s += self._lap_s()

    def executed(self, sample_s: float) -> None:
        """`sample_s` of the time since the last call went into choosing tokens.

        Steps that are planned ahead were waited for since then, for less than they took.
        """
        lap_s = self._lap_s()
        sample_s = min(sample_s, lap_s)
        self._times.execute_s += lap_s - sample_s
        self._times.sample_s += sample_s

    def updated(self) -> None:
        self._times.update_s += self._lap_s()

    def passed_on(self) -> None:
        """Messages were sent, or taken in."""
        self._times.wire_s += self._lap_s()

    def take(self) -> StepTimes:
        """The times since the last call of this."""
        times, self._times = self._times, StepTimes()
        return times
