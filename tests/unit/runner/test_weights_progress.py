from __future__ import annotations

from msgspec.structs import replace

from kvik.messages import Phase
from kvik.runner.weights_progress import WeightsProgress
from kvik.telemetry.phases import PhaseTimer


def test_files_become_parts_and_progress_is_told_now_and_then() -> None:
    now_s = 100.0
    told: list[Phase] = []
    timer = PhaseTimer("EngineCore", lambda phase: told.append(replace(phase)))
    whole = Phase("load weights", "EngineCore", 99.0, None)
    progress = WeightsProgress(timer, whole, lambda: now_s)
    bar: list[tuple[str, int, int]] = []
    progress.begin(1000, lambda *call: bar.append(call))
    for i in range(30):  # 31 ms each
        now_s += 1 / 32
        progress.bytes_done(20)
        if i == 9:
            progress.shard_done("a", 1, 2)
    progress.shard_done("b", 2, 2)
    assert bar == [("a", 1, 2), ("b", 2, 2)]
    first, second = timer.phases
    assert (first.name, first.start_s, first.end_s, first.num_bytes) == ("load weights: a", 100.0, 100.3125, 200)
    assert (second.name, second.start_s, second.num_bytes) == ("load weights: b", 100.3125, 400)
    steps = [p.num_bytes_done for p in told if p.name == "load weights"]
    assert 5 <= len(steps) <= 9, "ten times a second"
    assert steps == sorted(steps)
    assert (whole.num_bytes, whole.num_bytes_done) == (1000, 600)
