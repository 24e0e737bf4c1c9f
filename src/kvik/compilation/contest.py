"""Which of two ways to compute a step is faster. Pure numbers.

Times of one size are compared by the best of each side, since whatever disturbs a step makes it longer.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, field

ROUNDS = 8
"""Times of each side that a size needs."""
NEEDED_RATIO = 0.97
"""A challenger must take this share of the time, or less: a change is not worth less."""


@dataclass
class Times:
    """Seconds of one size."""

    holder: list[float] = field(default_factory=list)
    challenger: list[float] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        return len(self.holder) >= ROUNDS and len(self.challenger) >= ROUNDS


@dataclass(frozen=True)
class Verdict:
    """The best times of the first size, in seconds, and what all sizes come to."""

    size: Hashable
    holder_s: float
    challenger_s: float
    ratio: float
    """Challenger to holder, geometric mean over the sizes."""

    @property
    def is_faster(self) -> bool:
        return self.ratio <= NEEDED_RATIO


class Contest:
    """Between the holder, which computes now, and a challenger. One writer: whoever runs the steps."""

    def __init__(self) -> None:
        self._times: dict[Hashable, Times] = {}

    def wants_challenger(self, size: Hashable) -> bool:
        """Whose turn it is for a step of this size."""
        times = self._times.get(size, Times())
        return len(times.challenger) < len(times.holder)

    def add(self, size: Hashable, seconds: float, *, by_challenger: bool) -> None:
        times = self._times.setdefault(size, Times())
        (times.challenger if by_challenger else times.holder).append(seconds)

    def is_complete(self, size: Hashable) -> bool:
        return size in self._times and self._times[size].is_complete

    def verdict(self) -> Verdict | None:
        """None: no size has been measured often enough."""
        best = {
            size: (min(times.holder), min(times.challenger)) for size, times in self._times.items() if times.is_complete
        }
        if not best:
            return None
        logs = [math.log(challenger / holder) for holder, challenger in best.values()]
        first = next(iter(best))
        return Verdict(first, *best[first], math.exp(sum(logs) / len(logs)))
