"""A program on a terminal of its own, as a person sits before it: types, reads what appears, presses Ctrl+C."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from types import TracebackType

import pytest

_ON_ITS_TERMINAL = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.login_tty(os.open(sys.argv[1], os.O_RDWR))
os.execvp(sys.argv[2], sys.argv[2:])
"""
"""Makes the terminal the controlling one, so that Ctrl+C is a signal, which a shell's background job would ignore."""


class Terminal:
    """A command on a pseudo-terminal. Waits for texts with a deadline and for nothing else."""

    def __init__(self, *command: str, env: dict[str, str] | None = None) -> None:
        self._keyboard, program_end = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _ON_ITS_TERMINAL, os.ttyname(program_end), *command],
            stdin=subprocess.DEVNULL,
            env={**os.environ, "TERM": "dumb", "INPUTRC": os.devnull, **(env or {})},
        )
        self._program_end = program_end
        """Ours too until the end, or what was written last would be lost with its last holder."""
        self._shown = ""

    @classmethod
    def with_kvik(cls, *words: str) -> Terminal:
        return cls(sys.executable, "-m", "kvik", *words)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._program_end)
        os.close(self._keyboard)

    def type(self, text: str) -> None:
        os.write(self._keyboard, text.encode())

    def press_enter(self, line: str) -> None:
        self.type(line + "\r")

    def press_ctrl(self, letter: str) -> None:
        self.type(chr(ord(letter.upper()) - 64))

    def until(self, text: str, within_s: float = 20.0) -> str:
        """All that has been shown since the last call, up to and with `text`."""
        if not self._appears(text, within_s):
            pytest.fail(f"{text!r} did not appear; what did: {self._shown!r}")
        seen, text, self._shown = self._shown.partition(text)
        return seen + text

    def interrupt_until(self, text: str) -> str:
        """Press Ctrl+C, and once more where nothing comes of it, as a person would.

        The interpreter hears a signal between two of its waits for input, and misses one that comes just before a wait.
        """
        for _ in range(20):
            self.press_ctrl("C")
            if self._appears(text, 1.0):
                break
        return self.until(text, 0.0)

    def _appears(self, text: str, within_s: float) -> bool:
        deadline = time.monotonic() + within_s
        while text not in self._shown:
            ready, _, _ = select.select([self._keyboard], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return False
            self._shown += os.read(self._keyboard, 4096).decode(errors="replace").replace("\r\n", "\n")
        return True

    def exit_code(self, within_s: float = 20.0) -> int:
        return self.process.wait(within_s)
