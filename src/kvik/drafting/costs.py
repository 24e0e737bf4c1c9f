"""How long a decoding step takes, by its number of rows: measured, and between measurements interpolated.

Knows no clock: it is told what was measured. A row is one token of one request, drafted or not.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from statistics import median

NUM_KEPT = 9
"""Measurements per number of rows; their median counts, so that a step that was disturbed does not."""
PRIOR_SLOPE = 0.25
"""What an added row costs while only one number of rows was measured: this share of the mean time of a row."""


class StepCosts:
    def __init__(self) -> None:
        self._measured: dict[int, deque[float]] = {}
        self._medians_s: dict[int, float] = {}
        self._rows: list[int] = []
        """Numbers of rows that were measured, ascending."""

    def learn(self, num_rows: int, seconds: float) -> None:
        """A step of so many rows took so long."""
        kept = self._measured.get(num_rows)
        if kept is None:
            kept = self._measured[num_rows] = deque(maxlen=NUM_KEPT)
            insort(self._rows, num_rows)
        kept.append(seconds)
        self._medians_s[num_rows] = median(kept)

    def knows(self, num_rows: int) -> bool:
        return num_rows in self._medians_s

    def seconds(self, num_rows: int) -> float:
        """What a step of so many rows is expected to take. Raises `ValueError` before anything was measured."""
        if (known := self._medians_s.get(num_rows)) is not None:
            return known
        if not self._rows:
            raise ValueError("no step was measured yet")
        right = bisect_left(self._rows, num_rows)
        if right == 0:
            return self._medians_s[self._rows[0]]
        left = self._rows[right - 1]
        return self._medians_s[left] + (num_rows - left) * self._slope_after(right - 1)

    def _slope_after(self, index: int) -> float:
        """Seconds per row beyond `_rows[index]`, never negative; beyond the last, as between first and last."""
        if len(self._rows) == 1:
            return PRIOR_SLOPE * self._medians_s[self._rows[0]] / self._rows[0]
        is_last = index == len(self._rows) - 1
        low, high = (self._rows[0], self._rows[-1]) if is_last else (self._rows[index], self._rows[index + 1])
        return max(0.0, (self._medians_s[high] - self._medians_s[low]) / (high - low))
