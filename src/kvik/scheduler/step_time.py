"""What a step will take, learned from what steps took. Knows neither requests nor budgets, only loads and seconds.

The model is linear: a fixed time (all weights are read once), and so much for each request (its logits and its place in
the batch), for each token (its row of every product) and for each pair of a query and a key. After a step the surprise
is shared out among the four in proportion to the squares of what each had foreseen for it: normalised least mean
squares (Widrow and Hoff, 1960; normalised: Nagumo and Noda, 1967) with a step of its own per weight. A term that was
no part of a step is not touched by it, so long stretches of one kind of step unlearn nothing about the other kinds.
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

_LEAST_GAIN = 0.1
"""Share of a surprise that is learned once some steps are known; the first steps teach more."""
_LARGEST_SURPRISE = 0.5
"""A step that took far longer than foreseen (the machine was busy) counts as one that took this share longer."""
_NUM_FIRST_STEPS = 4
"""Steps whose surprises are believed whatever their size."""
_LEAST_SHARE = 0.02
"""No term falls below this share of where it started, in tokens: it could not be learned again."""


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
        self._weights = [0.0, 0.0, 0.0, 0.0]
        """Seconds per step, request, token and pair."""
        self._least = [0.0, 0.0, 0.0, 0.0]
        self.num_learned_steps = 0

    @property
    def is_known(self) -> bool:
        return self.num_learned_steps > 0

    @property
    def step_s(self) -> float:
        return self._weights[0]

    @property
    def request_s(self) -> float:
        return self._weights[1]

    @property
    def token_s(self) -> float:
        return self._weights[2]

    @property
    def pair_s(self) -> float:
        return self._weights[3]

    def predict(self, load: StepLoad) -> float:
        """Seconds; 0 as long as nothing is known."""
        return self._weights[0] + sum(w * n for w, n in zip(self._weights[1:], load, strict=True))

    def predict_share(self, num_computed_tokens: int, num_tokens: int) -> float:
        """Seconds that one request's share adds to a step."""
        _, request_s, token_s, pair_s = self._weights
        return request_s + token_s * num_tokens + pair_s * pairs_of(num_computed_tokens, num_tokens)

    def learn(self, load: StepLoad, seconds: float) -> None:
        """Take in what a step of this load took."""
        if not self.is_known:
            self._start(load, seconds)
        predicted = self.predict(load)
        surprise = seconds - predicted
        if self.num_learned_steps >= _NUM_FIRST_STEPS:
            limit = _LARGEST_SURPRISE * predicted
            surprise = max(-limit, min(surprise, limit))
        self._share_out(surprise, (1, *load))
        self.num_learned_steps += 1

    def _start(self, load: StepLoad, seconds: float) -> None:
        ratios = (FIXED_IN_TOKENS, REQUEST_IN_TOKENS, 1.0, TOKENS_PER_PAIR)
        token_s = seconds / sum(r * n for r, n in zip(ratios, (1, *load), strict=True))
        self._weights = [token_s * r for r in ratios]
        self._least = [_LEAST_SHARE * w for w in self._weights]

    def _share_out(self, surprise: float, counts: tuple[float, ...]) -> None:
        gain = max(_LEAST_GAIN, 1 / (1 + self.num_learned_steps))
        squares = [(w * n) ** 2 for w, n in zip(self._weights, counts, strict=True)]
        total = sum(squares)
        if total == 0.0:
            return  # a clock that stood still teaches nothing
        for i, (square, n) in enumerate(zip(squares, counts, strict=True)):
            if n:
                self._weights[i] = max(self._least[i], self._weights[i] + gain * surprise * square / total / n)
