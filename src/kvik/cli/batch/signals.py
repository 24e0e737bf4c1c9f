"""A batch that is told to stop: SIGTERM unwinds it as Ctrl+C does, so that the engine ends and each answer is whole."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Coroutine
from typing import Any

EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_TERMINATED = 128 + signal.SIGTERM


class StoppedError(Exception):
    """The work was told to stop. `code` is the exit code that says by which signal."""

    def __init__(self, code: int) -> None:
        super().__init__(f"stopped; exit code {code}")
        self.code = code


def run_until_stopped(work: Coroutine[Any, Any, int]) -> int:
    """The result of `work`, in an event loop of its own. Raises `StoppedError` after SIGINT or SIGTERM."""
    try:
        return asyncio.run(_heed_sigterm(work))
    except KeyboardInterrupt:
        raise StoppedError(EXIT_INTERRUPTED) from None
    except asyncio.CancelledError:
        raise StoppedError(EXIT_TERMINATED) from None


async def _heed_sigterm(work: Coroutine[Any, Any, int]) -> int:
    task = asyncio.current_task()
    assert task is not None
    if sys.platform != "win32":
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work
