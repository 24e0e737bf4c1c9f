"""There is no room left for the log: requests are answered, a dead engine is replaced, and the server goes down."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from support.server import MODEL, KvikServer, eventually

LARGEST_FILE_KIB = 512
"""More than the page that both processes share."""


@contextmanager
def server_that_logs_to(place: str, before: str = "") -> Iterator[KvikServer]:
    """All its output goes to `place`; so readiness is asked for rather than read. `before`: shell commands."""
    server = KvikServer("--recovery-queue")
    server.command = ["bash", "-c", f'{before} exec "$0" "$@" >>{place} 2>&1', *server.command]
    with server:
        assert eventually(lambda: status_of(server) == 200, within_s=60)
        yield server


def status_of(server: KvikServer) -> int:
    try:
        return httpx.get(f"http://127.0.0.1:{server.port}/health").status_code
    except httpx.TransportError:
        return 0


def ask(server: KvikServer) -> str:
    body = dict(model=MODEL, prompt="Count:", max_tokens=5, temperature=0)
    status, answer, _ = server.request("POST", "/v1/completions", body)
    assert status == 200, answer
    return str(answer["choices"][0]["text"])


def check(server: KvikServer) -> None:
    text = ask(server)
    for _ in range(150):  # each is a line of the access log
        assert server.request("GET", "/v1/models")[0] == 200
        assert server.request("POST", "/v1/completions", b"{")[0] == 400
    assert ask(server) == text
    os.kill(server.engine_pid(), signal.SIGKILL)
    assert ask(server) == text
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(20)


def test_a_full_device() -> None:
    with server_that_logs_to("/dev/full") as server:
        check(server)
    assert server.process.returncode == 0


@pytest.mark.timeout(60)
def test_a_disk_that_fills_up(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"\n" * (LARGEST_FILE_KIB - 12) * 1024)
    with server_that_logs_to(str(log), f"ulimit -f {LARGEST_FILE_KIB};") as server:
        check(server)
    assert log.stat().st_size == LARGEST_FILE_KIB * 1024, "it was not full"
    assert server.process.returncode == 0
