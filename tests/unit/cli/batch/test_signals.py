"""Both signals unwind the work before the caller hears of them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from kvik.cli.batch.signals import StoppedError, run_until_stopped


@pytest.fixture(autouse=True)
def interrupts() -> Iterator[None]:
    """Ctrl+C as in the foreground: a shell has its background jobs, tests among them, ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_unwinds(sent: signal.Signals, code: int) -> None:
    unwound = []

    async def work() -> int:
        try:
            os.kill(os.getpid(), sent)
            await asyncio.Event().wait()
        finally:
            unwound.append(True)
        return 0

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(StoppedError) as stop:
        run_until_stopped(work())
    assert (stop.value.code, unwound) == (code, [True])
    assert signal.getsignal(signal.SIGTERM) == before


def test_without_one_the_result_is_returned() -> None:
    async def work() -> int:
        return 7

    assert run_until_stopped(work()) == 7
