"""How an engine process ends when its parent does, and which signals it heeds. Knows no engine."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from types import FrameType

_ORPHAN_CHECK_INTERVAL_S = 1.0
"""Only where the system cannot wait for another process to end."""


def heed_signals() -> socket.socket:
    """SIGINT is the parent's: a terminal sends it to both, and the parent decides. SIGTERM unwinds and ends us.

    Returns a socket that becomes readable with each signal. Who sleeps in a system call must wait for it as well:
    Python runs a handler between two bytecodes, so a signal that comes just before the call would be slept over.
    """
    wakeup, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _unwind)
    signal.signal(signal.SIGCHLD, lambda signum, frame: None)  # the end of a worker is something to wake up for
    return wakeup


def _unwind(signum: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one does not wait for the unwinding
    sys.exit(128 + signum)


def let_signals_end_us() -> None:
    """Nothing is left to unwind: a SIGTERM during the interpreter's own end must not raise inside its callbacks."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def end_with_parent() -> None:
    """Start a thread that sleeps until the parent process is gone, and then ends this process at once.

    A thread, because the main one may be deep in a load or a kernel; the parent process rather than
    PR_SET_PDEATHSIG, because that signal comes when the parent's *thread* ends.
    """
    threading.Thread(target=_await_parent_death, args=(os.getppid(),), name="lifeline", daemon=True).start()


def _await_parent_death(parent_pid: int) -> None:
    try:
        parent = os.pidfd_open(parent_pid)
    except (AttributeError, OSError):
        while os.getppid() == parent_pid:
            time.sleep(_ORPHAN_CHECK_INTERVAL_S)
    else:
        select.select([parent], [], [])
    os._exit(1)
