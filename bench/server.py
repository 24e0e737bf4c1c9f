"""Start a server as a user would, know when it is ready, read its memory, stop it."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

READY_TIMEOUT_S = 120


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@dataclass
class Memory:
    """Resident bytes by process."""

    api_bytes: int
    engine_bytes: int


class Server:
    """`with Server(["--max-num-seqs", "32"]) as server:` starts `kvik serve` and waits until it is ready."""

    def __init__(self, flags: list[str], log: Path | None = None) -> None:
        self.port = free_port()
        self._flags = flags
        self._log = log
        self.seconds_to_ready = 0.0

    def __enter__(self) -> Server:
        out = self._log.open("wb") if self._log else subprocess.DEVNULL
        command = [sys.executable, "-m", "kvik", "serve", *self._flags, "--host", "127.0.0.1", "--port", str(self.port)]
        started = time.monotonic()
        self._process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        self._wait_until_ready(started)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    def memory(self) -> Memory:
        return Memory(resident_bytes(self.pid), sum(resident_bytes(child) for child in children_of(self.pid)))

    def _wait_until_ready(self, started: float) -> None:
        while time.monotonic() - started < READY_TIMEOUT_S:
            if self._process.poll() is not None:
                raise RuntimeError(f"the server ended with {self._process.returncode} before it was ready")
            if self._answers():
                self.seconds_to_ready = time.monotonic() - started
                return
            time.sleep(0.02)
        raise RuntimeError(f"the server was not ready within {READY_TIMEOUT_S} s")

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=0.5)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


def children_of(pid: int) -> list[int]:
    """Direct children that run Python (helpers such as resource trackers are small and counted too)."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
