from __future__ import annotations

import pytest

from kvik.compilation.contest import ROUNDS, Contest


def run(contest: Contest, size: int, holder_s: float, challenger_s: float, rounds: int = ROUNDS) -> None:
    for _ in range(2 * rounds):
        by_challenger = contest.wants_challenger(size)
        contest.add(size, challenger_s if by_challenger else holder_s, by_challenger=by_challenger)


def test_sides_take_turns() -> None:
    contest = Contest()
    turns = []
    for _ in range(4):
        turns.append(contest.wants_challenger(1))
        contest.add(1, 1.0, by_challenger=turns[-1])
    assert turns == [False, True, False, True]
    assert contest.wants_challenger(2) is False


def test_no_verdict_before_a_size_has_been_measured_often_enough() -> None:
    contest = Contest()
    run(contest, 1, 1.0, 0.5, ROUNDS - 1)
    run(contest, 2, 1.0, 0.5, ROUNDS - 1)
    assert contest.verdict() is None
    run(contest, 1, 1.0, 0.5, 1)
    assert contest.is_complete(1)
    assert not contest.is_complete(2)
    verdict = contest.verdict()
    assert verdict is not None
    assert (verdict.size, verdict.holder_s, verdict.challenger_s, verdict.ratio) == (1, 1.0, 0.5, pytest.approx(0.5))


@pytest.mark.parametrize(("challenger_s", "is_faster"), [(0.9, True), (0.97, True), (0.98, False), (1.5, False)])
def test_a_challenger_must_be_faster_by_something(challenger_s: float, is_faster: bool) -> None:
    contest = Contest()
    run(contest, 1, 1.0, challenger_s)
    verdict = contest.verdict()
    assert verdict is not None
    assert verdict.is_faster is is_faster


def test_disturbed_steps_do_not_count() -> None:
    contest = Contest()
    run(contest, 1, 1.0, 0.5)
    contest.add(1, 90.0, by_challenger=True)
    verdict = contest.verdict()
    assert verdict is not None
    assert verdict.challenger_s == 0.5


def test_sizes_weigh_the_same() -> None:
    contest = Contest()
    run(contest, 1, 1.0, 0.5)
    run(contest, 64, 100.0, 200.0)
    verdict = contest.verdict()
    assert verdict is not None
    assert verdict.ratio == pytest.approx(1.0)
    assert not verdict.is_faster
