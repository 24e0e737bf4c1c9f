"""A server's start as it goes, and later the starts of engines that replaced dead ones: what GET /startup tells.

Knows phases and how long they may take; knows no process and no HTTP.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Literal

import msgspec

from kvik.messages import Phase
from kvik.telemetry.start_estimate import Expectation, is_waited_for, seconds_left

Status = Literal["starting", "ready", "recovering", "draining", "dead"]

MAX_RECOVERIES = 10
"""The latest are kept."""
_MAX_REASON_CHARS = 300


class PhaseReport(msgspec.Struct):
    """A phase as clients see it, seconds since the start of the server's process."""

    name: str
    process: str
    start_s: float
    end_s: float | None
    num_bytes: int | None
    num_bytes_done: int | None


class RecoveryReport(msgspec.Struct):
    """How a dead engine was replaced, on the same clock."""

    reason: str
    start_s: float
    end_s: float | None
    phases: list[PhaseReport]


class StartupReport(msgspec.Struct):
    """The body of GET /startup."""

    status: Status
    phase: str | None
    """What goes on, if it is a start or a recovery."""
    elapsed_s: float
    """Of the start, which may be over, or of the recovery that goes on."""
    estimated_s_left: float | None
    phases: list[PhaseReport]
    recoveries: list[RecoveryReport]


class Phases:
    """Phases by what they are called and when they began; told of in any order, and of each as often as it changes."""

    def __init__(self) -> None:
        self._phases: dict[tuple[str, str, float], Phase] = {}

    def observe(self, phase: Phase) -> None:
        self._phases[(phase.process, phase.name, phase.start_s)] = phase

    def all(self) -> list[Phase]:
        """In the order of their start."""
        return sorted(list(self._phases.values()), key=lambda p: p.start_s)  # noqa: C414 - another thread may add one

    def current(self) -> Phase | None:
        """Of those in progress the one that the start waits for, or else the youngest; while nothing is, the one that
        ended last. Parts do not count."""
        whole = [p for p in self.all() if not p.is_part]
        running = [p for p in whole if p.end_s is None]
        if running:
            return max(running, key=lambda p: (is_waited_for(p), p.start_s))
        return max(whole, key=lambda p: p.end_s or 0.0, default=None)

    def close(self, now_s: float) -> None:
        """What is in progress has come to nothing: who did it is dead."""
        for phase in tuple(self._phases.values()):
            if phase.end_s is None:
                phase.end_s = now_s


class _Recovery:
    def __init__(self, reason: str, start_s: float) -> None:
        self.reason = reason[:_MAX_REASON_CHARS]
        self.start_s = start_s
        self.end_s: float | None = None
        self.phases = Phases()


class Timeline:
    """`observe` may be called by any thread, all else belongs to the event loop's."""

    def __init__(self, began_s: float, expectation: Expectation, clock: Callable[[], float] = time.monotonic) -> None:
        """`began_s`: when the server's process began."""
        self._began_s = began_s
        self._clock = clock
        self._expectation = expectation
        self._start = Phases()
        self._ready_s: float | None = None
        self._recoveries: deque[_Recovery] = deque(maxlen=MAX_RECOVERIES)

    def observe(self, phase: Phase) -> None:
        recovery = self._recovery
        phases = self._start if recovery is None else recovery.phases
        if phase.name == "interpreter" and recovery is not None:
            phases.close(phase.start_s)  # another attempt: the one before has failed
        phases.observe(phase)

    def expect(self, expectation: Expectation) -> None:
        """How long a start like this one takes is known better now."""
        self._expectation = expectation

    def ready(self) -> None:
        """The start is over."""
        self._ready_s = self._clock()

    def begin_recovery(self, reason: str) -> None:
        self.end_recovery()
        self._recoveries.append(_Recovery(reason, self._clock()))
        self._expectation = Expectation.of_restart(self.phases)

    def end_recovery(self) -> None:
        """The engine serves again; or there will be none."""
        if (recovery := self._recovery) is not None:
            recovery.end_s = self._clock()
            recovery.phases.close(recovery.end_s)

    @property
    def is_starting(self) -> bool:
        return self._ready_s is None

    @property
    def began_s(self) -> float:
        return self._began_s

    @property
    def phases(self) -> list[Phase]:
        """Of the start, in their order."""
        return self._start.all()

    @property
    def current_phase(self) -> str | None:
        """The name of what goes on, while something does."""
        phase = self._going_on.current() if self._goes_on else None
        return None if phase is None else phase.name

    @property
    def estimated_s_left(self) -> float | None:
        """Until the server is ready; None while it is."""
        if not self._goes_on:
            return None
        return seconds_left(self._expectation, self._going_on.all(), self._clock())

    @property
    def elapsed_s(self) -> float:
        """Of the recovery that goes on, or of the start."""
        if (recovery := self._recovery) is not None:
            return self._clock() - recovery.start_s
        return (self._clock() if self._ready_s is None else self._ready_s) - self._began_s

    def report(self, status: Status) -> StartupReport:
        left_s = self.estimated_s_left
        return StartupReport(
            status=status,
            phase=self.current_phase,
            elapsed_s=_rounded(self.elapsed_s),
            estimated_s_left=None if left_s is None else round(left_s, 1),
            phases=self._reports(self._start),
            recoveries=[self._recovery_report(recovery) for recovery in self._recoveries],
        )

    @property
    def _recovery(self) -> _Recovery | None:
        """The one that goes on."""
        return self._recoveries[-1] if self._recoveries and self._recoveries[-1].end_s is None else None

    @property
    def _goes_on(self) -> bool:
        return self._ready_s is None or self._recovery is not None

    @property
    def _going_on(self) -> Phases:
        return self._start if (recovery := self._recovery) is None else recovery.phases

    def _recovery_report(self, recovery: _Recovery) -> RecoveryReport:
        start_s, end_s = self._since_began(recovery.start_s), self._since_began(recovery.end_s)
        assert start_s is not None
        return RecoveryReport(recovery.reason, start_s, end_s, self._reports(recovery.phases))

    def _reports(self, phases: Phases) -> list[PhaseReport]:
        return [self._phase_report(phase) for phase in phases.all()]

    def _phase_report(self, phase: Phase) -> PhaseReport:
        start_s, end_s = self._since_began(phase.start_s), self._since_began(phase.end_s)
        assert start_s is not None
        done = phase.num_bytes_done or None if phase.end_s is None else None
        return PhaseReport(phase.name, phase.process, start_s, end_s, phase.num_bytes or None, done)

    def _since_began(self, time_s: float | None) -> float | None:
        return None if time_s is None else _rounded(time_s - self._began_s)


def _rounded(seconds: float) -> float:
    return round(seconds, 4)


def covered_s(phases: Iterable[Phase]) -> float:
    """Seconds in which at least one of the phases was in progress; those that have not ended do not count."""
    total_s, covered_until_s = 0.0, float("-inf")
    for phase in sorted((p for p in phases if p.end_s is not None), key=lambda p: p.start_s):
        end_s = phase.end_s or 0.0
        total_s += max(0.0, end_s - max(phase.start_s, covered_until_s))
        covered_until_s = max(covered_until_s, end_s)
    return total_s
