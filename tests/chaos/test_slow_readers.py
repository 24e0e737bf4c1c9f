"""Clients that ask for long answers and do not read them, beside one that does."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from support.server import MODEL, KvikServer, eventually

NUM_DEAF = 4
FIELDS: dict[str, Any] = dict(model=MODEL, prompt="Count:", ignore_eos=True, temperature=0)


@pytest.fixture(scope="module")
def server() -> Iterator[KvikServer]:
    with KvikServer("--slow-client-timeout", "2", "--header-timeout", "2") as running:
        yield running


def deaf_client(server: KvikServer, **fields: Any) -> socket.socket:
    """One that has asked for a long answer with many logprobs, and takes 2 KB of it."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    sock.connect(("127.0.0.1", server.port))
    body = json.dumps(FIELDS | {"max_tokens": 6000, "logprobs": 20} | fields).encode()
    head = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return sock


def resident_bytes(server: KvikServer) -> int:
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def ask(server: KvikServer) -> str:
    answer = server.request("POST", "/v1/completions", FIELDS | {"max_tokens": 40})[1]
    return str(answer["choices"][0]["text"])


@pytest.mark.timeout(120)
def test_streams_that_nobody_reads_end_alone_and_hold_nothing(server: KvikServer) -> None:
    alone = ask(server)
    bytes_before = resident_bytes(server)
    with ExitStack() as stack:
        for _ in range(NUM_DEAF):
            stack.enter_context(deaf_client(server, stream=True))
        assert eventually(lambda: server.metric("vllm:num_requests_running") == NUM_DEAF)
        assert ask(server) == alone
        most_bytes = 0

        def have_ended() -> bool:
            nonlocal most_bytes
            most_bytes = max(most_bytes, resident_bytes(server))
            return server.metric("vllm:slow_clients_ended_total") == NUM_DEAF

        assert eventually(have_ended, within_s=60)
    assert eventually(lambda: server.metric("vllm:num_requests_running") == 0, within_s=2)
    assert server.metric("vllm:request_success_total", finished_reason="abort") == NUM_DEAF
    assert sum("has taken nothing of its answer" in line for line in server.lines) == NUM_DEAF
    assert most_bytes - bytes_before < 30e6
    assert ask(server) == alone


@pytest.mark.timeout(60)
def test_heads_that_never_end_do_not_hold_connections(server: KvikServer) -> None:
    with ExitStack() as stack:
        half_open = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(20)]
        for sock in half_open:
            sock.sendall(b"POST /v1/completions HTTP/1.1\r\nHo")
        started_s = time.monotonic()
        assert server.request("GET", "/health")[0] == 200
        for sock in half_open:
            assert sock.recv(100).startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - started_s < 10
    assert server.metric("vllm:slow_requests_ended_total") == 20
