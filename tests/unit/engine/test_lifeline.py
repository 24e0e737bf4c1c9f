"""Signals and the parent's death, each in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

HEED = (
    "import atexit, os, signal; from kvik.engine import lifeline; wakeup = lifeline.heed_signals(); pid = os.getpid(); "
)


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", HEED + code], capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 0)])
def test_sigterm_unwinds_and_sigint_is_the_parents(name: str, code: int) -> None:
    ended = run(f"atexit.register(print, 'unwound'); os.kill(pid, signal.{name})")
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, "unwound\n", "")


def test_a_sigterm_during_the_interpreters_end_says_nothing() -> None:
    ended = run("atexit.register(os.kill, pid, signal.SIGTERM); lifeline.let_signals_end_us()")
    assert (ended.returncode, ended.stderr) == (-signal.SIGTERM, "")


CHILD = """
import threading
from kvik.engine.lifeline import end_with_parent
end_with_parent()
print("ready", flush=True)
threading.Event().wait()
"""
PARENT = f"""
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}], stdout=subprocess.PIPE)
child.stdout.readline()
os._exit(0)
"""


def test_an_orphan_ends_itself() -> None:
    """The child holds the pipe that this test reads to its end, so the test is over when the child is."""
    ended = subprocess.run([sys.executable, "-c", PARENT], stderr=subprocess.PIPE, timeout=30, check=True)
    assert ended.stderr == b""
