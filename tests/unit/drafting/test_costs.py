from __future__ import annotations

import pytest

from kvik.drafting.costs import PRIOR_SLOPE, StepCosts


def learned(*measurements: tuple[int, float]) -> StepCosts:
    costs = StepCosts()
    for num_rows, seconds in measurements:
        costs.learn(num_rows, seconds)
    return costs


def ratio(costs: StepCosts, num_rows: int, to: int) -> float:
    return costs.relative(num_rows) / costs.relative(to)


def test_between_measurements_and_beyond() -> None:
    costs = learned((1, 0.010), (5, 0.014))
    assert ratio(costs, 3, 1) == pytest.approx(1.2)
    assert ratio(costs, 9, 1) == pytest.approx(1.8)
    assert costs.knows(5)
    assert not costs.knows(3)
    assert ratio(learned((4, 0.01), (8, 0.02)), 1, 4) == 1.0  # no step is faster than the smallest that was measured


def test_one_measurement_and_none() -> None:
    assert ratio(learned((4, 0.010)), 8, 4) == pytest.approx(1 + PRIOR_SLOPE)
    with pytest.raises(ValueError, match="no step"):
        StepCosts().relative(1)


def test_a_larger_step_that_was_measured_faster_gives_no_negative_slope() -> None:
    costs = learned((1, 0.010), (5, 0.009))
    assert costs.relative(9) == costs.relative(5)


def test_a_machine_that_becomes_slower_changes_no_ratio() -> None:
    costs = learned(*[(1, 0.010)] * 5, *[(6, 0.013)] * 5, *[(1, 0.080)] * 20)
    assert ratio(costs, 6, 1) == pytest.approx(1.3)
    costs.learn(6, 0.104)
    assert ratio(costs, 6, 1) == pytest.approx(1.3)


def test_a_disturbed_step_counts_little() -> None:
    costs = learned(*[(1, 0.010)] * 5, (6, 0.012), (6, 0.500), (6, 0.012), *[(1, 0.010)] * 3, (1, 0.3), (1, 0.010))
    assert ratio(costs, 6, 1) == pytest.approx(1.2)


def test_a_clock_that_stands_still_divides_by_nothing() -> None:
    costs = learned((1, 0.0), (6, 0.0), (1, 0.0))
    assert costs.relative(6) >= 0
