"""Whether the engine gets anywhere: one that has work and shows no progress for too long is ended, and so restarted.

Progress is what the engine's page of memory counts: turns of its loop, and native work inside of a long step. Knows no
request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from kvik.telemetry.log import get_logger
from kvik.wire.pulse import PulseReading, Stage

logger = get_logger(__name__)

STACKS_S = 0.5
"""For the engine to write its stacks."""
_MOST_IDS_LOGGED = 64


class StallDetector:
    """Decides from observations; knows no clock of its own."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._num_progress = -1
        self._since_s = 0.0

    def observe(self, reading: PulseReading, has_work: bool, now_s: float) -> float | None:
        """Seconds without progress, once they are too many; None otherwise."""
        if not has_work or reading.num_progress != self._num_progress:
            self._num_progress, self._since_s = reading.num_progress, now_s
            return None
        stalled_s = now_s - self._since_s
        return stalled_s if stalled_s >= self._timeout_s else None


class Stoppable(Protocol):
    """What of an engine the watch needs."""

    @property
    def pulse(self) -> PulseReading: ...
    def dump_stacks(self) -> None: ...
    def kill_engine(self, reason: str) -> None: ...


async def watch_for_stalls(
    engine: Stoppable, has_work: Callable[[], bool], timeout_s: float, clock: Callable[[], float] = time.monotonic
) -> None:
    """For ever. `has_work`: whether the engine should be getting somewhere."""
    detector = StallDetector(timeout_s)
    while True:
        await asyncio.sleep(min(1.0, timeout_s / 8))
        stalled_s = detector.observe(engine.pulse, has_work(), clock())
        if stalled_s is not None:
            await _end(engine, stalled_s)
            detector = StallDetector(timeout_s)


async def _end(engine: Stoppable, stalled_s: float) -> None:
    """Write down what it hangs in, then end it."""
    reading = engine.pulse
    logger.error(
        "the engine has work and has made no progress for %.1f s; %s. Its stacks follow, unless it is stopped",
        stalled_s, _describe(reading),
    )  # fmt: skip
    engine.dump_stacks()
    await asyncio.sleep(STACKS_S)
    engine.kill_engine(f"it made no progress for {stalled_s:.1f} s (--stall-timeout)")


def _describe(reading: PulseReading) -> str:
    if reading.stage != Stage.COMPUTING:
        return "it is between steps" if reading.stage == Stage.BETWEEN_STEPS else "it plans a step"
    ids = reading.request_ids or ()
    shown = ", ".join(ids[:_MOST_IDS_LOGGED]) + (", ..." if len(ids) > _MOST_IDS_LOGGED else "")
    return f"it computes step {reading.num_steps} of {len(ids)} requests: {shown}"
