from __future__ import annotations

import asyncio

import pytest

from kvik.engine_client import stall_watch
from kvik.engine_client.stall_watch import StallDetector, watch_for_stalls
from kvik.wire.pulse import PulseReading, Stage


def reading(num_progress: int) -> PulseReading:
    return PulseReading(num_progress, 3, Stage.COMPUTING, ("a", "b"))


def test_no_progress_for_too_long() -> None:
    detector = StallDetector(10.0)
    assert detector.observe(reading(5), True, 100.0) is None
    assert detector.observe(reading(5), True, 109.9) is None
    assert detector.observe(reading(5), True, 110.0) == 10.0


def test_progress_of_any_kind_begins_anew() -> None:
    detector = StallDetector(10.0)
    for second in range(0, 100, 9):
        assert detector.observe(reading(second), True, float(second)) is None


def test_an_engine_without_work_need_not_move() -> None:
    detector = StallDetector(10.0)
    for second in range(0, 100, 9):
        assert detector.observe(reading(5), False, float(second)) is None
    assert detector.observe(reading(5), True, 105.0) is None  # it has had work for a moment only


class Hanging:
    """Never moves; remembers what it was told."""

    def __init__(self) -> None:
        self.pulse = reading(5)
        self.told: list[str] = []
        self.killed = asyncio.Event()

    def dump_stacks(self) -> None:
        self.told.append("stacks")

    def kill_engine(self, reason: str) -> None:
        self.told.append(reason)
        self.killed.set()


def test_the_stacks_come_before_the_end(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(stall_watch, "STACKS_S", 0.0)

    async def run() -> Hanging:
        engine = Hanging()
        watch = asyncio.create_task(watch_for_stalls(engine, lambda: True, 0.02))
        await asyncio.wait_for(engine.killed.wait(), 20)
        watch.cancel()
        await asyncio.wait((watch,))
        return engine

    engine = asyncio.run(run())
    assert engine.told[0] == "stacks"
    assert "--stall-timeout" in engine.told[1]
    assert "step 3 of 2 requests: a, b" in caplog.text
