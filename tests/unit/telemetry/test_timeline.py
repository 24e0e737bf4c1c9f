from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvik.messages import Phase
from kvik.telemetry.start_estimate import Expectation
from kvik.telemetry.timeline import MAX_RECOVERIES, Timeline, covered_s

ENGINE, API = "EngineCore_DP0", "APIServer"


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def timeline(clock: Clock) -> Timeline:
    return Timeline(100.0, Expectation.measured({"imports": 2.0, "load weights": 3.0}), clock)


def test_a_start_while_it_goes_on(timeline: Timeline, clock: Clock) -> None:
    timeline.observe(Phase("config", API, 100.0, 100.5))
    loading = Phase("load weights", ENGINE, 101.0, None, num_bytes=1000)
    timeline.observe(loading)
    timeline.observe(Phase("load weights: part", ENGINE, 101.0, None))
    clock.now_s = 102.0
    loading.num_bytes_done = 500
    report = timeline.report("starting")
    assert (report.status, report.phase, report.elapsed_s, report.estimated_s_left) == (
        "starting",
        "load weights",
        2,
        1,
    )
    config, weights, part = report.phases
    assert (config.start_s, config.end_s, config.num_bytes, config.num_bytes_done) == (0.0, 0.5, None, None)
    assert (weights.start_s, weights.end_s, weights.num_bytes, weights.num_bytes_done) == (1.0, None, 1000, 500)
    assert part.end_s is None


def test_the_same_phase_is_told_of_again_and_again(timeline: Timeline) -> None:
    for end_s, done in ((None, 0), (None, 5), (103.0, 5), (103.0, 5)):
        timeline.observe(Phase("load weights", ENGINE, 101.0, end_s, 9, done))
    assert [(p.end_s, p.num_bytes_done) for p in timeline.phases] == [(103.0, 5)]


def test_between_two_phases_the_last_one_is_named(timeline: Timeline) -> None:
    assert timeline.report("starting").phase is None
    timeline.observe(Phase("config", API, 100.0, 100.5))
    timeline.observe(Phase("spawn engine", API, 100.5, 100.6))
    assert timeline.current_phase == "spawn engine"


def test_what_the_start_waits_for_is_named(timeline: Timeline) -> None:
    timeline.observe(Phase("imports", ENGINE, 100.0, None))
    timeline.observe(Phase("import http server", API, 101.0, None))
    assert timeline.current_phase == "imports"


def test_after_the_start_its_time_stands_still(timeline: Timeline, clock: Clock) -> None:
    clock.now_s = 107.5
    timeline.ready()
    clock.now_s = 9999.0
    report = timeline.report("ready")
    assert (report.phase, report.elapsed_s, report.estimated_s_left) == (None, 7.5, None)


def test_a_recovery_has_phases_of_its_own(timeline: Timeline, clock: Clock) -> None:
    timeline.observe(Phase("imports", ENGINE, 100.0, 102.0))
    timeline.ready()
    clock.now_s = 200.0
    timeline.begin_recovery("it was killed" + "!" * 1000)
    timeline.observe(Phase("interpreter", ENGINE, 200.1, 200.2))
    timeline.observe(Phase("imports", ENGINE, 200.2, None))
    clock.now_s = 201.0
    report = timeline.report("recovering")
    assert (report.phase, report.elapsed_s) == ("imports", 1.0)
    assert report.estimated_s_left == pytest.approx(2.0 - 0.8)
    assert [p.name for p in report.phases] == ["imports"], "the start's"
    (recovery,) = report.recoveries
    assert recovery.reason.startswith("it was killed")
    assert len(recovery.reason) == 300
    assert (recovery.start_s, recovery.end_s) == (100.0, None)
    assert [(p.name, p.start_s) for p in recovery.phases] == [("interpreter", 100.1), ("imports", 100.2)]
    timeline.end_recovery()
    assert timeline.report("ready").recoveries[0].end_s == 101.0
    assert timeline.report("ready").phase is None


def test_an_attempt_that_failed_does_not_go_on_for_ever(timeline: Timeline, clock: Clock) -> None:
    timeline.ready()
    timeline.begin_recovery("it died")
    timeline.observe(Phase("interpreter", ENGINE, 100.1, 100.2))
    timeline.observe(Phase("load weights", ENGINE, 100.2, None))
    timeline.observe(Phase("interpreter", ENGINE, 105.0, 105.1))
    timeline.observe(Phase("imports", ENGINE, 105.1, None))
    (recovery,) = timeline.report("recovering").recoveries
    assert [(p.name, p.end_s) for p in recovery.phases] == [
        ("interpreter", pytest.approx(0.2)), ("load weights", 5.0),
        ("interpreter", pytest.approx(5.1)), ("imports", None),
    ]  # fmt: skip
    assert timeline.current_phase == "imports"


def test_recoveries_are_not_kept_without_end(timeline: Timeline) -> None:
    timeline.ready()
    for i in range(3 * MAX_RECOVERIES):
        timeline.begin_recovery(str(i))
        timeline.end_recovery()
    assert [r.reason for r in timeline.report("ready").recoveries] == [str(i) for i in range(20, 30)]


spans = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 30)), max_size=12)


@given(spans)
def test_covered_time_is_that_of_the_union(starts_and_lengths: list[tuple[int, int]]) -> None:
    phases = [Phase(str(i), API, float(s), float(s + n)) for i, (s, n) in enumerate(starts_and_lengths)]
    union = {second for s, n in starts_and_lengths for second in range(s, s + n)}
    assert covered_s([*phases, Phase("open", API, 0.0, None)]) == len(union)
