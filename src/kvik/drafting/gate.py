"""How many drafted tokens pay in this step: the choice that brings the most tokens per second, measured.

A step of B requests brings B tokens and takes t(B). With m drafts it brings B tokens and those of the m that come true,
and takes t(B + m). The m surest drafts are added where that ratio is best and better than without by a margin.

What t(B + m) is must be tried: now and then, the more seldom the longer, many drafts are taken, paying or not.
And when step after step has drafts, one now and then has none, to see what t(B) has become.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from kvik.drafting.costs import StepCosts

MIN_GAIN = 1.03
"""Tokens per second with drafts over without; what is nearer to 1 is noise."""
FIRST_TRIAL_AFTER = 4
"""Steps."""
MAX_STEPS_BETWEEN_TRIALS = 256
MIN_GAIN_OF_TRIAL = 1.2
"""Tokens with drafts over without: no trial where less is hoped for, though rows were free."""
MIN_DRAFTS_OF_TRIAL = 8
"""A trial has so many drafts, or half as many as there are requests: dear rows must not make it a long step."""
MAX_STEPS_WITHOUT_PLAIN = 128


class Hope(NamedTuple):
    """The drafts of one request."""

    num_tokens: int
    probability: float
    """That one of them is right if those before it are."""


@dataclass(slots=True)
class _Trials:
    """When the next step is tried with many drafts, at one magnitude of batches."""

    num_steps_between: int = FIRST_TRIAL_AFTER
    num_steps_since: int = 0

    def is_due(self) -> bool:
        return self.num_steps_since >= self.num_steps_between

    def start(self) -> None:
        self.num_steps_since = 0
        self.num_steps_between = min(2 * self.num_steps_between, MAX_STEPS_BETWEEN_TRIALS)


class Gate:
    """One engine's. `choose` per step that could have drafts, `learn` per step that was measured."""

    def __init__(self, max_drafts_per_step: int) -> None:
        self._max_drafts = max_drafts_per_step
        self._costs = StepCosts()
        self._trials: dict[int, _Trials] = {}
        """By the number of bits of the batch size."""
        self._num_steps_since_plain = 0

    def learn(self, num_rows: int, num_drafts: int, seconds: float) -> None:
        """A step of so many rows, `num_drafts` of them drafts and none of a prompt, took so long."""
        self._costs.learn(num_rows, seconds)
        self._num_steps_since_plain = self._num_steps_since_plain + 1 if num_drafts else 0

    def choose(self, batch_size: int, hopes: Sequence[Hope]) -> list[int]:
        """Per hope, how many of its tokens are computed, the first so many."""
        chances = self._surest(hopes)
        if not chances or not self._costs.knows(batch_size) or self._num_steps_since_plain >= MAX_STEPS_WITHOUT_PLAIN:
            return [0] * len(hopes)
        trials = self._trials.setdefault(batch_size.bit_length(), _Trials())
        trials.num_steps_since += 1
        expected = list(accumulate(chance for chance, _, _ in chances))
        num_taken = min(len(chances), max(MIN_DRAFTS_OF_TRIAL, batch_size // 2))
        if trials.is_due() and batch_size + expected[num_taken - 1] >= MIN_GAIN_OF_TRIAL * batch_size:
            trials.start()
        else:
            num_taken = self._best_count(batch_size, expected)
        counts = [0] * len(hopes)
        for _, _, request in chances[:num_taken]:
            counts[request] += 1
        return counts

    def _surest(self, hopes: Sequence[Hope]) -> list[tuple[float, int, int]]:
        """(chance, place in its draft, index of its hope), the surest first, at most what a step may have."""
        chances = [
            (hope.probability ** (place + 1), place, index)
            for index, hope in enumerate(hopes)
            for place in range(hope.num_tokens)
        ]
        chances.sort(key=lambda chance: (-chance[0], chance[1]))
        return chances[: self._max_drafts]

    def _best_count(self, batch_size: int, expected: Sequence[float]) -> int:
        """`expected[m - 1]`: tokens that m drafts are expected to bring."""
        best_count, best_rate = 0, MIN_GAIN * batch_size / self._costs.relative(batch_size)
        for count, num_right in enumerate(expected, start=1):
            rate = (batch_size + num_right) / self._costs.relative(batch_size + count)
            if rate > best_rate:
                best_count, best_rate = count, rate
        return best_count
