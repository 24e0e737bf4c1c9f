"""How long a decoding step takes, by its number of rows: measured, and between measurements interpolated.

A step's time is a level, which moves (with the length of the contexts, with what else the machine does), times a shape
over the number of rows, which stays. Every step tells the level; so what was measured for other numbers of rows long
ago still compares. Knows no clock: it is told what was measured. A row is one token of one request, drafted or not.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from statistics import median_low

NUM_SHAPES_KEPT = 9
"""Measurements per number of rows. Their low median counts: disturbances only make a step slower."""
NUM_LEVELS_KEPT = 5
PRIOR_SLOPE = 0.25
"""What an added row costs while only one number of rows was measured: this share of the mean time of a row."""


class StepCosts:
    def __init__(self) -> None:
        self._levels: deque[float] = deque(maxlen=NUM_LEVELS_KEPT)
        self._measured: dict[int, deque[float]] = {}
        self._shapes: dict[int, float] = {}
        self._rows: list[int] = []
        """Numbers of rows that were measured, ascending."""

    def learn(self, num_rows: int, seconds: float) -> None:
        """A step of so many rows took so long."""
        if not self._levels:
            self._levels.append(seconds)
        shape = self._shapes.get(num_rows)
        if shape is None:
            self._measured[num_rows] = deque(maxlen=NUM_SHAPES_KEPT)
            insort(self._rows, num_rows)
        elif shape > 0:
            self._levels.append(seconds / shape)
        level = median_low(self._levels)
        kept = self._measured[num_rows]
        kept.append(seconds / level if level > 0 else 1.0)
        self._shapes[num_rows] = median_low(kept)

    def knows(self, num_rows: int) -> bool:
        return num_rows in self._shapes

    def relative(self, num_rows: int) -> float:
        """What a step of so many rows is expected to take, in a unit of its own. Raises `ValueError` before any was
        measured."""
        if (known := self._shapes.get(num_rows)) is not None:
            return known
        if not self._rows:
            raise ValueError("no step was measured yet")
        right = bisect_left(self._rows, num_rows)
        if right == 0:
            return self._shapes[self._rows[0]]
        left = self._rows[right - 1]
        return self._shapes[left] + (num_rows - left) * self._slope_after(right - 1)

    def _slope_after(self, index: int) -> float:
        """Per row beyond `_rows[index]`, never negative; beyond the last, as between first and last."""
        if len(self._rows) == 1:
            return PRIOR_SLOPE * self._shapes[self._rows[0]] / self._rows[0]
        is_last = index == len(self._rows) - 1
        low, high = (self._rows[0], self._rows[-1]) if is_last else (self._rows[index], self._rows[index + 1])
        return max(0.0, (self._shapes[high] - self._shapes[low]) / (high - low))
