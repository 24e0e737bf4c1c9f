"""The engine process as its parent sees it: started, watched, ended. Knows nothing of what is said to it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence

ENGINE_MODULE = "kvik.engine.process"


def engine_command(address: str, log_level: str) -> list[str]:
    """The command line of an engine process that connects to `address`."""
    return [sys.executable, "-m", ENGINE_MODULE, address, "--log-level", log_level]


class EngineProcess:
    """One child process, running as soon as this is made. No event loop is needed until `watch`."""

    def __init__(self, command: Sequence[str]) -> None:
        # In a session of its own, Ctrl+C reaches the parent alone, which lets open requests come to their end.
        self._child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)

    @property
    def pid(self) -> int:
        return self._child.pid

    def watch(self) -> asyncio.Future[int]:
        """A future of the running loop that gets the child's exit code (negative: the signal that ended it)."""
        loop = asyncio.get_running_loop()
        exited: asyncio.Future[int] = loop.create_future()

        def wait() -> None:
            code = self._child.wait()
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody asks any more
                loop.call_soon_threadsafe(_set_once, exited, code)

        threading.Thread(target=wait, name="watch-engine", daemon=True).start()
        return exited

    def terminate(self) -> None:
        self._child.terminate()

    def signal(self, number: signal.Signals) -> None:
        self._child.send_signal(number)

    def kill(self) -> None:
        self._child.kill()

    def kill_and_wait(self) -> None:
        """For an exit without an event loop: end it now and reap it."""
        self._child.kill()
        self._child.wait()


def _set_once(future: asyncio.Future[int], value: int) -> None:
    if not future.done():
        future.set_result(value)


def describe_exit(code: int) -> str:
    """What the log says of an exit code."""
    return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
