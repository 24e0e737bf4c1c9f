from __future__ import annotations

import pytest

from kvik.drafting.acceptance import MAX_PROBABILITY, Acceptance


def test_the_share_of_right_tokens_among_those_that_were_checked() -> None:
    acceptance = Acceptance(prior=0.5, fading=1.0)
    for _ in range(1000):
        acceptance.learn(4, 3, is_refuted=True)
    assert acceptance.probability(4) == pytest.approx(0.75, abs=0.001)
    assert acceptance.probability(2) == 0.5  # nothing is known of matches of 2 tokens
    acceptance = Acceptance(fading=1.0)
    for _ in range(1000):
        acceptance.learn(4, 5, is_refuted=False)
    assert acceptance.probability(4) == MAX_PROBABILITY


def test_the_past_fades() -> None:
    acceptance = Acceptance(prior=0.5, fading=0.9)
    for _ in range(100):
        acceptance.learn(3, 0, is_refuted=True)
    assert acceptance.probability(3) < 0.1
    for _ in range(10):
        acceptance.learn(3, 5, is_refuted=False)
    assert acceptance.probability(3) > 0.8


def test_a_new_request_starts_from_what_all_requests_have_shown() -> None:
    everybody = Acceptance(fading=0.99)
    first = Acceptance(prior=everybody)
    for _ in range(100):
        first.learn(2, 0, is_refuted=True)
    second = Acceptance(prior=everybody)
    assert second.probability(2) == everybody.probability(2) < 0.05
    second.learn(2, 5, is_refuted=False)
    assert second.probability(2) > 0.5
