"""The real server, started as a user starts it, on a free port of the loopback."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from openai import OpenAI

MODEL = "SmolLM2-135M-Instruct"
READY_TIMEOUT_S = 90
CACHE_ROOT = str(Path(tempfile.gettempdir()) / f"kvik-test-cache-{os.getuid()}")
"""Not the user's: tests leave nothing there."""


class KvikServer:
    """One `kvik serve` process and everything that it wrote."""

    def __init__(
        self, *flags: str, env: dict[str, str] | None = None, module: str = "kvik", port: int | None = None
    ) -> None:
        """`port`: one that the test knows; otherwise one that is free."""
        self.port = port or free_port()
        self.command = [sys.executable, "-m", module, "serve", *flags, "--host", "127.0.0.1", "--port", str(self.port)]
        self.lines: list[str] = []
        self._env = {**os.environ, "KVIK_CACHE_ROOT": CACHE_ROOT, **(env or {})}
        self._passed_fds: tuple[int, ...] = ()

    def activate(self, listening: socket.socket, notified: socket.socket) -> None:
        """Start as a service manager does: with a socket as file descriptor 3, and somebody who is told."""
        self.port = listening.getsockname()[1]
        fd = listening.fileno()
        script = f'LISTEN_PID=$$ exec "$0" "$@" 3<&{fd}'
        self.command = ["bash", "-c", script, *self.command]
        self._env |= {"LISTEN_FDS": "1", "NOTIFY_SOCKET": notified.getsockname(), "WATCHDOG_USEC": "1500000"}
        self._passed_fds = (fd,)

    def __enter__(self) -> KvikServer:
        self.process = subprocess.Popen(
            self.command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=self._env,
            pass_fds=self._passed_fds,
        )  # fmt: skip
        self._ready, self._ended = threading.Event(), threading.Event()
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        if not self._ready.wait(READY_TIMEOUT_S) or self._has_ended():
            self.__exit__(None, None, None)
            pytest.fail("the server did not get ready:\n" + self.log)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join(5)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _has_ended(self) -> bool:
        """A server whose log has ended is one that is about to, unless its log goes elsewhere."""
        if "Application startup complete." not in self.log:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.5)
        return self.process.poll() is not None

    def _read_log(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if "Application startup complete." in line:
                self._ready.set()
        self._ready.set()

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    @contextlib.contextmanager
    def client(self) -> Iterator[OpenAI]:
        """Closed at the end: one that is only forgotten leaves its sockets to the garbage collector."""
        url = f"http://127.0.0.1:{self.port}/v1"
        with OpenAI(base_url=url, api_key="none", max_retries=0, timeout=60) as client:
            yield client

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
        """One plain HTTP request; the body of the answer is parsed if it is JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, data, {"Content-Type": "application/json", **headers})
            answer = connection.getresponse()
            raw = answer.read()
            is_json = answer.headers.get_content_type() == "application/json"
            return answer.status, json.loads(raw) if is_json and raw else raw.decode(), dict(answer.headers)
        finally:
            connection.close()

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry these labels."""
        total = 0.0
        for line in self.request("GET", "/metrics")[1].splitlines():
            sample, _, value = line.rpartition(" ")
            if sample.partition("{")[0] == name and all(f'{k}="{v}"' in sample for k, v in labels.items()):
                total += float(value)
        return total

    def engine_pid(self) -> int:
        """Of the engine that runs; to be asked while there is one."""
        pid = self.find_engine()
        assert pid is not None
        return pid

    def find_engine(self) -> int | None:
        """The same; None between the end of one engine and the start of the next."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for pid in children:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if b"kvik.engine.process" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return int(pid)
        return None


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def eventually(holds: Callable[[], bool], within_s: float = 10.0) -> bool:
    """Ask until it holds or the time is over. For states that change in another process and announce nothing."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if holds():
            return True
        threading.Event().wait(0.02)
    return holds()
