"""How long a start still takes: from what the last one like it took, and from the bytes that have been read so far.

Only phases that the start waits for one after the other are counted: `CHAIN`. Knows no file and no process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from kvik.messages import Phase

WEIGHTS = "load weights"
NOMINAL_BYTES_PER_S = 400e6
"""Of weights, where nothing is known: read and brought into the kernels' layout by two cores."""

_ENGINE: dict[str, float] = {
    "interpreter": 0.05, "imports": 1.3, "platform": 0.02, WEIGHTS: 1.0, "profile": 0.02, "reserve KV cache": 0.03,
    "capture": 0.05, "warm up": 0.2, "scheduler": 0.02, "settle": 0.1,
}  # fmt: skip
_API: dict[str, float] = {"connect engine": 0.01, "routes": 0.05, "listen": 0.02}
CHAIN: dict[str, float] = {**_ENGINE, **_API}
"""Phase -> seconds where nothing is known. What comes before the engine's is over when somebody can ask."""
_MEASURED_S, _MEASURED_SHARE = 0.2, 0.05
"""So long, and so much of the whole, weights must have been read for their speed to be believed: memory is taken first,
and the first tensors may be small."""


@dataclass(frozen=True)
class Expectation:
    """What a start is expected to take."""

    seconds: Mapping[str, float] = field(default_factory=lambda: dict(CHAIN))
    """By phase, in their order."""

    @classmethod
    def nominal(cls, weights_bytes: int) -> Self:
        """For a start that is the first of its kind. `weights_bytes`: of the checkpoint; 0: not known."""
        weights_s = weights_bytes / NOMINAL_BYTES_PER_S if weights_bytes else CHAIN[WEIGHTS]
        return cls({**CHAIN, WEIGHTS: weights_s})

    @classmethod
    def measured(cls, seconds: Mapping[str, float]) -> Self:
        """As long as an earlier start took; what it did not have takes no time."""
        return cls({name: seconds.get(name, 0.0) for name in CHAIN})

    @classmethod
    def of_restart(cls, phases: Sequence[Phase]) -> Self:
        """Of the engine alone, whose first start had these phases."""
        seconds = measured_seconds(phases)
        return cls({name: seconds.get(name, 0.0) for name in _ENGINE})


def measured_seconds(phases: Sequence[Phase]) -> dict[str, float]:
    """What the phases of `CHAIN` took that have ended; one that came twice counts as often."""
    seconds: dict[str, float] = {}
    for phase in phases:
        if is_waited_for(phase) and phase.end_s is not None:
            seconds[phase.name] = seconds.get(phase.name, 0.0) + phase.seconds
    return seconds


def seconds_left(expected: Expectation, phases: Sequence[Phase], now_s: float) -> float:
    """Never below 0: a phase that takes longer than expected is taken to end at any moment."""
    seen = {phase.name: phase for phase in phases if is_waited_for(phase)}
    last = max((list(expected.seconds).index(name) for name in seen if name in expected.seconds), default=-1)
    left_s = 0.0
    for place, (name, seconds) in enumerate(expected.seconds.items()):
        if name in seen:
            left_s += _left_of(seen[name], seconds, now_s)
        elif place > last:
            left_s += seconds
    return left_s


def _left_of(phase: Phase, expected_s: float, now_s: float) -> float:
    if phase.end_s is not None:
        return 0.0
    elapsed_s = max(0.0, now_s - phase.start_s)
    if elapsed_s >= _MEASURED_S and phase.num_bytes_done > _MEASURED_SHARE * phase.num_bytes:
        return elapsed_s * max(0, phase.num_bytes - phase.num_bytes_done) / phase.num_bytes_done
    return max(0.0, expected_s - elapsed_s)


def is_waited_for(phase: Phase) -> bool:
    """Whether it is of `CHAIN`. The API process has an interpreter's start of its own, which is over before the engine
    begins."""
    return phase.name in (_API if phase.process.startswith("API") else _ENGINE)
