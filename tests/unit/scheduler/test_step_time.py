"""The model of step times against machines that cost what a formula says."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvik.scheduler.step_time import StepLoad, StepTimeModel, pairs_of
from kvik.step import ScheduledRequest

SMALL = (9e-3, 0.6e-3, 0.25e-3, 0.08e-6)
"""Seconds per step, request, token and pair: a model of 0.1 billion weights on two cores."""
LARGE = (0.5, 5e-3, 70e-3, 3e-6)


def seconds(machine: tuple[float, ...], load: StepLoad) -> float:
    return machine[0] + sum(cost * n for cost, n in zip(machine[1:], load, strict=True))


def some_loads(seed: int, num_loads: int) -> list[StepLoad]:
    """Streams with and without a piece of a prompt beside them, and prompts alone."""
    draw = random.Random(seed)
    loads = []
    for _ in range(num_loads):
        num_streams = draw.randrange(0, 33)
        num_prompt_tokens = draw.choice([0, 0, 16, 50, 256, 2048]) if num_streams else 500
        pairs = num_streams * draw.randrange(100, 1000) + pairs_of(draw.randrange(2000), num_prompt_tokens)
        loads.append(StepLoad(num_streams + bool(num_prompt_tokens), num_streams + num_prompt_tokens, pairs))
    return loads


def test_a_load_is_the_sum_of_its_shares() -> None:
    shares = [ScheduledRequest("a", 100, 1, []), ScheduledRequest("b", 10, 3, [])]
    assert StepLoad.of(shares) == StepLoad(2, 4, 101 + (11 + 12 + 13))


def test_nothing_is_known_before_the_first_step_and_then_its_own_time() -> None:
    model = StepTimeModel()
    assert not model.is_known
    assert model.predict(StepLoad(1, 1, 1)) == 0
    model.learn(StepLoad(1, 300, pairs_of(0, 300)), 0.6)
    assert model.is_known
    assert model.predict(StepLoad(1, 300, pairs_of(0, 300))) == pytest.approx(0.6)
    assert 0.001 < model.predict(StepLoad(1, 1, 300)) < 0.1


@pytest.mark.parametrize("machine", [SMALL, LARGE])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_varied_steps_teach_what_each_costs(machine: tuple[float, ...], noise: float) -> None:
    draw, model = random.Random(7), StepTimeModel()
    for load in some_loads(3, 300):
        model.learn(load, seconds(machine, load) * (1 + noise * draw.gauss(0, 1)))
    errors = [abs(model.predict(load) / seconds(machine, load) - 1) for load in some_loads(4, 100)]
    assert max(errors) < (0.05 if noise == 0 else 0.2)


def test_steps_of_one_kind_unlearn_nothing_about_the_others() -> None:
    model = StepTimeModel()
    for load in some_loads(3, 200):
        model.learn(load, seconds(SMALL, load))
    decoding = StepLoad(8, 8, 8 * 500)
    for _ in range(2000):
        model.learn(decoding, seconds(SMALL, decoding))
    mixed = StepLoad(9, 8 + 256, 8 * 500 + pairs_of(0, 256))
    assert model.predict(decoding) == pytest.approx(seconds(SMALL, decoding), rel=0.01)
    assert model.predict(mixed) == pytest.approx(seconds(SMALL, mixed), rel=0.1)


def test_a_few_steps_of_a_busy_machine_change_little_and_a_slower_machine_is_followed() -> None:
    model, load = StepTimeModel(), StepLoad(8, 8, 4000)
    for _ in range(100):
        model.learn(load, 0.02)
    model.learn(load, 2.0)
    assert model.predict(load) < 0.024
    for _ in range(60):
        model.learn(load, 0.06)
    assert model.predict(load) == pytest.approx(0.06, rel=0.05)


@given(
    st.lists(
        st.tuples(st.integers(1, 40), st.integers(0, 3000), st.integers(0, 10**7), st.floats(0, 1e3)),
        min_size=1, max_size=60,
    )
)  # fmt: skip
def test_whatever_is_measured_every_kind_of_work_keeps_a_positive_cost(
    steps: list[tuple[int, int, int, float]],
) -> None:
    model = StepTimeModel()
    for num_requests, num_more_tokens, num_pairs, step_s in steps:
        model.learn(StepLoad(num_requests, num_requests + num_more_tokens, num_pairs), step_s)
    terms = (model.step_s, model.request_s, model.token_s, model.pair_s)
    assert all(term > 0 for term in terms) == model.is_known
    assert all(term < 1e6 for term in terms)
