from __future__ import annotations

from msgspec.structs import replace

from kvik.messages import Phase
from kvik.telemetry.phases import PhaseTimer


def test_phases_are_timed_in_order_and_told_of_as_they_begin_and_end() -> None:
    heard: list[Phase] = []
    timer = PhaseTimer("APIServer", lambda phase: heard.append(replace(phase)))
    with timer.phase("one") as span:
        span.num_bytes = 5
        assert timer.phases == []
    timer.add(Phase("two", "APIServer", 1.0, 2.0))
    assert [p.name for p in timer.phases] == ["one", "two"]
    assert [(p.name, p.end_s is None, p.num_bytes) for p in heard] == [
        ("one", True, 0), ("one", False, 5), ("two", False, 5 - 5),
    ]  # fmt: skip
    one = timer.phases[0]
    assert one.end_s is not None
    assert one.end_s >= one.start_s > 0
    assert one.seconds == one.end_s - one.start_s


def test_a_phase_may_have_begun_before_there_was_a_timer() -> None:
    timer = PhaseTimer("EngineCore")
    timer.add_interpreter(first_line_s=-5.0)  # before the clock began: what the system says cannot be believed
    with timer.phase("imports", start_s=-5.0):
        pass
    interpreter, imports = timer.phases
    assert (interpreter.name, interpreter.start_s, interpreter.end_s) == ("interpreter", -5.0, -5.0)
    assert imports.start_s == -5.0
    assert imports.seconds > 5
