"""How often guesses come true, by how much context they rest on. Counts of the past, faded; knows no cost.

A draft of probability p per token is right for j tokens with p^j. Its estimate is the share of right tokens among those
that were checked, up to the first wrong one of each draft. All guesses are checked against the tokens that came, also
those that were never computed as drafts, so that knowing better costs nothing.
"""

from __future__ import annotations

NUM_CLASSES = 5
MAX_PROBABILITY = 0.98
_PRIOR_WEIGHT = 2.0
"""Checked tokens that the prior is worth."""


def class_of(match_length: int) -> int:
    """Matches of 1, 2, 3, 4 to 7, and 8 tokens or more."""
    if match_length <= 3:
        return max(0, match_length - 1)
    return 3 if match_length < 8 else 4


class Acceptance:
    """Estimates of one request, whose prior is that of all requests; or of all requests, with a constant prior."""

    def __init__(self, *, prior: Acceptance | float = 0.5, fading: float = 0.9) -> None:
        """`fading`: what a count is worth when the next draft of its class has been checked."""
        self._prior = prior
        self._fading = fading
        self._num_right = [0.0] * NUM_CLASSES
        self._num_checked = [0.0] * NUM_CLASSES

    def learn(self, match_length: int, num_right: int, *, is_refuted: bool) -> None:
        """Of a guess, `num_right` tokens came true; `is_refuted`: then came one that did not."""
        kind = class_of(match_length)
        self._num_right[kind] = self._fading * self._num_right[kind] + num_right
        self._num_checked[kind] = self._fading * self._num_checked[kind] + num_right + is_refuted
        if isinstance(self._prior, Acceptance):
            self._prior.learn(match_length, num_right, is_refuted=is_refuted)

    def probability(self, match_length: int) -> float:
        """That a drafted token is right if those before it are."""
        prior = self._prior.probability(match_length) if isinstance(self._prior, Acceptance) else self._prior
        kind = class_of(match_length)
        estimate = (self._num_right[kind] + _PRIOR_WEIGHT * prior) / (self._num_checked[kind] + _PRIOR_WEIGHT)
        return min(MAX_PROBABILITY, estimate)
