"""What a step will take, learned from what steps took. Knows neither requests nor budgets, only loads and seconds.

The model is linear: a fixed time (all weights are read once), and so much for each request (its logits and its place in
the batch), for each token (its row of every product) and for each pair of a query and a key. The four times are the
state of a Kalman filter (1960) that drifts as a random walk and sees one number a step. Unlike an average that forgets,
it keeps what it knows of terms that steps do not vary for a while, and knows how little it knows of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from kvik.step import ScheduledRequest

FIXED_IN_TOKENS = 8.0
REQUEST_IN_TOKENS = 1.0
TOKENS_PER_PAIR = 1 / 2500
"""Where the model starts, as ratios to a token; only the first step's measured time turns them into seconds. A step
reads its weights in the time in which some eight tokens are multiplied with them, and attention doubles the cost of a
token that has 2,500 before it: so it is, within a factor of two, with models of 0.1 to 8 billion weights."""

_FIRST_DOUBT = 2.0
"""Standard deviation of that start, as a share of each term; what is not seen for long becomes as doubtful again."""
_DRIFT = 0.03
"""Standard deviation of a term's change from step to step, as a share of it."""
_NOISE = 0.1
"""Standard deviation of a step's time around the model, as a share of it."""
_LARGEST_SURPRISE = 0.5
"""A step that took far longer than foreseen (the machine was busy) counts as one that took this share longer."""
_NUM_FIRST_STEPS = 4
"""Steps whose surprises are believed whatever their size."""
_SHORTEST_STEP_S = 1e-6
"""What a clock that stood still is taken for."""
_LEAST_SHARE = 0.02
"""No term falls below this share of where it started: no work is free."""


class StepLoad(NamedTuple):
    """A step as far as its time depends on it."""

    num_requests: int = 0
    num_tokens: int = 0
    num_pairs: float = 0.0
    """Pairs of a query and a key that it attends to, in one head of one layer."""

    @classmethod
    def of(cls, shares: Iterable[ScheduledRequest]) -> StepLoad:
        num_requests, num_tokens, num_pairs = 0, 0, 0.0
        for share in shares:
            num_requests += 1
            num_tokens += share.num_scheduled_tokens
            num_pairs += pairs_of(share.num_computed_tokens, share.num_scheduled_tokens)
        return cls(num_requests, num_tokens, num_pairs)


def pairs_of(num_computed_tokens: int, num_tokens: int) -> float:
    """Pairs of `num_tokens` causal queries after `num_computed_tokens`."""
    return num_tokens * (num_computed_tokens + (num_tokens + 1) / 2)


class StepTimeModel:
    """Seconds of a step by its load. Knows nothing until the first `learn`."""

    def __init__(self) -> None:
        self._times_s = [0.0] * 4
        """Per step, request, token and pair."""
        self._first_s = [0.0] * 4
        """Where they started."""
        self._covariance = [[0.0] * 4 for _ in range(4)]
        """Of what we do not know of them: symmetric, in units of `_first_s`, so that all entries are of one size."""
        self.num_learned_steps = 0

    @property
    def is_known(self) -> bool:
        return self.num_learned_steps > 0

    @property
    def step_s(self) -> float:
        return self._times_s[0]

    @property
    def request_s(self) -> float:
        return self._times_s[1]

    @property
    def token_s(self) -> float:
        return self._times_s[2]

    @property
    def pair_s(self) -> float:
        return self._times_s[3]

    def predict(self, load: StepLoad) -> float:
        """Seconds; 0 as long as nothing is known."""
        return self._times_s[0] + sum(t * n for t, n in zip(self._times_s[1:], load, strict=True))

    def predict_share(self, num_computed_tokens: int, num_tokens: int) -> float:
        """Seconds that one request's share adds to a step."""
        _, request_s, token_s, pair_s = self._times_s
        return request_s + token_s * num_tokens + pair_s * pairs_of(num_computed_tokens, num_tokens)

    def learn(self, load: StepLoad, seconds: float) -> None:
        """Take in what a step of this load took."""
        seconds = max(seconds, _SHORTEST_STEP_S)
        if not self.is_known:
            self._start(load, seconds)
        predicted = self.predict(load)
        surprise = seconds - predicted
        if self.num_learned_steps >= _NUM_FIRST_STEPS:
            limit = _LARGEST_SURPRISE * predicted
            surprise = max(-limit, min(surprise, limit))
        self._correct([t * n for t, n in zip(self._first_s, (1, *load), strict=True)], surprise, predicted)
        self.num_learned_steps += 1

    def _start(self, load: StepLoad, seconds: float) -> None:
        ratios = (FIXED_IN_TOKENS, REQUEST_IN_TOKENS, 1.0, TOKENS_PER_PAIR)
        token_s = seconds / sum(r * n for r, n in zip(ratios, (1, *load), strict=True))
        self._first_s = [token_s * r for r in ratios]
        self._times_s = list(self._first_s)
        self._covariance = [[_FIRST_DOUBT**2 if i == j else 0.0 for j in range(4)] for i in range(4)]

    def _correct(self, shares_s: list[float], surprise_s: float, predicted_s: float) -> None:
        """One round of the filter: drift, then the correction. `shares_s`: each term's seconds had it not moved."""
        covariance = self._covariance
        for i in range(4):
            drift = _DRIFT * self._times_s[i] / self._first_s[i]
            covariance[i][i] = max(covariance[i][i], min(covariance[i][i] + drift**2, _FIRST_DOUBT**2))
        spread = [sum(c * s for c, s in zip(row, shares_s, strict=True)) for row in covariance]
        variance = sum(s * d for s, d in zip(shares_s, spread, strict=True)) + (_NOISE * predicted_s) ** 2
        for i in range(4):
            gain = spread[i] / variance
            moved = self._times_s[i] + gain * surprise_s * self._first_s[i]
            self._times_s[i] = max(moved, _LEAST_SHARE * self._first_s[i])
            for j in range(4):
                covariance[i][j] -= gain * spread[j]
