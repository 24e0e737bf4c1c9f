from __future__ import annotations

from kvik.messages import Phase
from kvik.telemetry.phases import PhaseTimer


def test_phases_are_timed_in_order_and_told_of() -> None:
    heard: list[Phase] = []
    timer = PhaseTimer("APIServer", heard.append)
    with timer.phase("one") as span:
        span.num_bytes = 5
    timer.add(Phase("two", "APIServer", 1.0, 2.0))
    assert [p.name for p in timer.phases] == ["one", "two"]
    assert heard == timer.phases
    assert timer.phases[0].end_s >= timer.phases[0].start_s > 0
    assert (timer.phases[0].process, timer.phases[0].num_bytes) == ("APIServer", 5)
