"""Child processes: small servers of the standard library, which are up in a fraction of a second."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from kvik.bench.process import ServerProcess, descendants, free_port, session_members
from kvik.errors import KvikError

SERVE = """
import http.server, sys
http.server.test(http.server.SimpleHTTPRequestHandler, port=int(sys.argv[1]), bind="127.0.0.1")
"""
STUBBORN = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[2], sys.argv[1]])"


def server(tmp_path: Path, *code: str, ready_timeout_s: float = 30.0) -> ServerProcess:
    port = free_port()
    command = [sys.executable, "-c", code[0], str(port), *code[1:]]
    return ServerProcess(command, port, tmp_path / "log", ready_path="/", ready_timeout_s=ready_timeout_s)


def test_ready_measured_and_ended(tmp_path: Path) -> None:
    with server(tmp_path, SERVE) as running:
        assert running.seconds_to_ready > 0
        assert running.resident_bytes()[running.pid] > 1_000_000
        assert running.peak_resident_bytes()[running.pid] >= running.resident_bytes()[running.pid]
        assert running.cpu_seconds()[running.pid] >= 0
        pid = running.pid
    assert not Path(f"/proc/{pid}/task").exists()


def test_children_are_known_and_end_too(tmp_path: Path) -> None:
    with server(tmp_path, STUBBORN, SERVE) as running:
        family = descendants(running.pid)
        assert len(family) == 1
        assert os.getsid(family[0]) == running.pid
    assert not any(
        Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes() for pid in family
    )


def test_orphans_that_hear_nothing_are_ended(tmp_path: Path) -> None:
    deaf = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + SERVE
    with server(tmp_path, STUBBORN, deaf) as running:
        session = running.pid
        assert len(session_members(session)) == 2
    for pid in session_members(session):
        assert Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"  # dead, and waiting for its parent to notice


def test_one_that_stands_still_can_be_ended(tmp_path: Path) -> None:
    with server(tmp_path, SERVE) as running:
        running.suspend()


def test_an_early_end_shows_the_log(tmp_path: Path) -> None:
    with (
        pytest.raises(KvikError, match=r"ended with 3 before it was ready:\n(.|\n)*no such model"),
        server(tmp_path, "import sys; print('no such model', flush=True); sys.exit(3)"),
    ):
        pass


def test_one_that_never_gets_ready_is_ended(tmp_path: Path) -> None:
    with (
        pytest.raises(KvikError, match=r"was not ready within 0\.3 s"),
        server(tmp_path, "import signal; signal.pause()", ready_timeout_s=0.3),
    ):
        pass
