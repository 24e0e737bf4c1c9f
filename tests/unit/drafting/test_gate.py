"""The gate with made-up step times."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvik.drafting.gate import FIRST_TRIAL_AFTER, MAX_STEPS_WITHOUT_PLAIN, Gate, Hope


def warm_gate(seconds_by_rows: dict[int, float], max_drafts: int = 64) -> Gate:
    """A gate that has measured these, and has had its first trials."""
    gate = Gate(max_drafts)
    for num_rows, seconds in seconds_by_rows.items():
        gate.learn(num_rows, 0, seconds)
    return gate


def test_nothing_before_a_plain_step_was_measured() -> None:
    assert Gate(64).choose(1, [Hope(5, 0.98)]) == [0]


def test_free_rows_are_taken_and_dear_ones_are_not() -> None:
    assert warm_gate({1: 0.010, 6: 0.0102}).choose(1, [Hope(5, 0.5)]) == [5]
    assert warm_gate({1: 0.010, 6: 0.060}).choose(1, [Hope(5, 0.9)]) == [0]
    # each row adds a tenth: a chance of 0.8, 0.64, 0.51 ... is worth more than that times the tokens so far for long
    assert warm_gate({1: 0.010, 6: 0.015}).choose(1, [Hope(5, 0.3)]) == [1]


def test_the_surest_drafts_of_all_requests_come_first() -> None:
    gate = warm_gate({2: 0.010, 3: 0.0101, 4: 0.0102, 5: 0.1})
    assert gate.choose(2, [Hope(5, 0.2), Hope(5, 0.9)]) == [0, 2]


def test_a_large_batch_that_is_bound_by_arithmetic_has_none() -> None:
    gate = warm_gate({1: 0.010, 32: 0.060, 64: 0.120})
    assert gate.choose(32, [Hope(5, 0.9)] * 32) == [0] * 32
    assert gate.choose(1, [Hope(2, 0.98)]) != [0]


def test_a_closed_gate_tries_ever_more_seldom() -> None:
    gate = warm_gate({1: 0.010})
    tried = []
    for step in range(2000):
        (count,) = gate.choose(1, [Hope(5, 0.3)])
        gate.learn(1 + count, count, 0.010 * (1 + count))
        if count:
            tried.append(step)
    gaps = [b - a for a, b in pairwise(tried)]
    assert tried[0] <= FIRST_TRIAL_AFTER
    assert gaps == sorted(gaps)
    assert gaps[-1] == 256
    assert len(tried) < 16
    assert not gate.choose(1, [Hope(1, 0.05)])[0]


def test_a_trial_of_a_large_batch_is_no_long_step() -> None:
    gate = warm_gate({1: 0.010, 32: 0.100, 64: 0.200})
    counts = []
    for probability in [0.9] * 100 + [0.15] * 300:
        counts.append(sum(gate.choose(32, [Hope(5, probability)] * 32)))
        gate.learn(32 + counts[-1], counts[-1], 0.1 * (32 + counts[-1]) / 32)
    assert set(counts[:100]) == {0, 16}
    assert set(counts[100:]) == {0}  # too little to hope for


def test_a_gate_opens_when_a_trial_shows_that_rows_are_free() -> None:
    gate = warm_gate({1: 0.010, 2: 0.020})
    counts = []
    for _ in range(20):
        (count,) = gate.choose(1, [Hope(5, 0.8)])
        gate.learn(1 + count, count, 0.010)
        counts.append(count)
    assert counts[:3] == [0, 0, 0]
    assert counts[-5:] == [5] * 5


def test_a_plain_step_now_and_then() -> None:
    gate = warm_gate({1: 0.010})
    counts = []
    for _ in range(3 * MAX_STEPS_WITHOUT_PLAIN):
        (count,) = gate.choose(1, [Hope(5, 0.9)])
        gate.learn(1 + count, count, 0.010)
        counts.append(count)
    assert 2 <= counts.count(0) <= 4


@given(
    st.dictionaries(st.integers(1, 80), st.floats(1e-4, 1), max_size=6),
    st.lists(st.builds(Hope, st.integers(0, 6), st.floats(0.01, 0.98)), min_size=1, max_size=8),
    st.integers(1, 20),
)
def test_never_more_than_there_is(costs: dict[int, float], hopes: list[Hope], max_drafts: int) -> None:
    gate = warm_gate(costs, max_drafts)
    for _ in range(6):
        counts = gate.choose(len(hopes), hopes)
        assert all(0 <= count <= hope.num_tokens for count, hope in zip(counts, hopes, strict=True))
        assert sum(counts) <= max_drafts
        gate.learn(len(hopes) + sum(counts), sum(counts), 0.01)


@pytest.mark.parametrize("probability", [0.98, 0.02])
def test_no_hope_is_no_draft(probability: float) -> None:
    assert warm_gate({1: 0.01}).choose(2, [Hope(0, probability), Hope(0, probability)]) == [0, 0]
