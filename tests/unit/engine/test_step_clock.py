from __future__ import annotations

import pytest
from engine_steps import request, run, started

from kvik.engine.step_clock import StepClock
from kvik.messages import StepTimes


class Clock:
    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns

    def wait(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)


def test_each_part_has_the_time_before_its_word() -> None:
    clock = Clock()
    times = StepClock(clock)
    clock.wait(100)  # asleep
    times.go()
    for seconds, passed in ((1, times.passed_on), (2, times.scheduled)):
        clock.wait(seconds)
        passed()
    clock.wait(8)
    times.executed(sample_s=3)
    clock.wait(4)
    times.updated()
    clock.wait(0.5)
    times.passed_on()
    assert times.take() == StepTimes(schedule_s=2, execute_s=5, sample_s=3, update_s=4, wire_s=1.5)
    assert times.take() == StepTimes()


def test_the_parts_of_a_step_are_within_it() -> None:
    core = started()
    core.add_request(request("a"))
    for step in run(core):
        assert step.stats is not None
        times = step.stats.step_times
        assert times is not None
        parts = [times.schedule_s, times.execute_s, times.sample_s, times.update_s]
        assert all(part >= 0 for part in parts)
        assert 0 < sum(parts) <= step.stats.step_time_s + 1e-3
        assert times.wire_s == pytest.approx(0)
