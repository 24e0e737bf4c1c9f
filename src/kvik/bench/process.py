"""A server as a child process: started, known to be ready, measured from /proc, and ended whatever happens.

Works for any server that answers 200 at a path of the loopback once it is ready. Knows no engine by name.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from kvik.errors import KvikError

HOST = "127.0.0.1"
POLL_S = 0.02
STOP_TIMEOUT_S = 30
LOG_TAIL_LINES = 12


class ServerProcess:
    """`with ServerProcess(command, port, log) as server:` starts the command and waits until it is ready.

    The child has a session of its own, so that Ctrl+C reaches us alone and we can end it with all its children.
    Raises `KvikError`, with the end of its log, if it ends or is not ready within `ready_timeout_s`.
    """

    def __init__(
        self,
        command: Sequence[str],
        port: int,
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        ready_path: str = "/health",
        ready_timeout_s: float = 300.0,
    ) -> None:
        self.port = port
        self.log = log
        self.seconds_to_ready = 0.0
        self._command = list(command)
        self._env = {**os.environ, **(env or {})}
        self._ready_path = ready_path
        self._ready_timeout_s = ready_timeout_s

    def __enter__(self) -> Self:
        with self.log.open("wb") as out:
            started_s = time.monotonic()
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=self._env,
                start_new_session=True,
            )  # fmt: skip
        try:
            self._wait_until_ready(started_s)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        """Ask it to end, and after `STOP_TIMEOUT_S` or when interrupted end it and all that is left of its session."""
        try:
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGINT)
                self.resume()  # one that stands still hears nothing
                self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            for pid in session_members(self.pid):  # its orphans, also those that it started while it ended
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def resident_bytes(self) -> dict[int, int]:
        """By pid, of the process and of all below it; pages that several share are counted in each."""
        return {pid: resident_bytes(pid) for pid in (self.pid, *descendants(self.pid))}

    def peak_resident_bytes(self) -> dict[int, int]:
        """By pid, the most that each process ever had."""
        return {pid: peak_resident_bytes(pid) for pid in (self.pid, *descendants(self.pid))}

    def cpu_seconds(self) -> dict[int, float]:
        """By pid, user and system time so far."""
        return {pid: cpu_seconds(pid) for pid in (self.pid, *descendants(self.pid))}

    def suspend(self) -> None:
        """Stop all its processes where they are, so that they take no time while another server is measured."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: signal.Signals) -> None:
        for pid in (self.pid, *descendants(self.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _wait_until_ready(self, started_s: float) -> None:
        while time.monotonic() - started_s < self._ready_timeout_s:
            if self._process.poll() is not None:
                raise KvikError(
                    f"the server ended with {self._process.returncode} before it was ready:\n{self._tail()}"
                )
            if _answers(self.port, self._ready_path):
                self.seconds_to_ready = time.monotonic() - started_s
                return
            time.sleep(POLL_S)
        raise KvikError(f"the server was not ready within {self._ready_timeout_s:g} s:\n{self._tail()}")

    def _tail(self) -> str:
        lines = [f"$ {' '.join(self._command)}", *self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]]
        return "\n".join(lines)


def free_port() -> int:
    """One that was free a moment ago."""
    with socket.socket() as s:
        s.bind((HOST, 0))
        return int(s.getsockname()[1])


def descendants(pid: int) -> list[int]:
    """Pids below `pid`, parents first."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        children = _children(waiting.pop(0))
        found += children
        waiting += children
    return found


def _children(pid: int) -> list[int]:
    """Children of every thread of a process."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def resident_bytes(pid: int) -> int:
    """0 if the process is gone."""
    return _status_bytes(pid, "VmRSS:")


def peak_resident_bytes(pid: int) -> int:
    return _status_bytes(pid, "VmHWM:")


def _status_bytes(pid: int, name: str) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(name):
                return 1024 * int(line.split()[1])
    return 0


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, ended threads included; 0 if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def session_members(session: int) -> list[int]:
    """Pids of the living processes of a session. Its number is not given away again while one of them lives."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if _session_of(pid) == session]


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=2.0)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
