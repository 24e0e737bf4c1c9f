"""Who is too slow: by a clock that the test turns, then on real connections."""

from __future__ import annotations

import asyncio
import json
import socket
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from kvik.config.connections import ConnectionConfig
from kvik.errors import ConfigError
from kvik.server.slow_clients import ClientWatch
from kvik.telemetry.connection_metrics import ConnectionMetrics
from kvik.text.outputs import CompletionOutput
from support.live_server import Live, live_server
from support.server_without_engine import Script

CHAT = json.dumps({"messages": [{"role": "user", "content": "Hi"}]}).encode()
CHAT_STREAM = json.dumps({"messages": [{"role": "user", "content": "Hi"}], "stream": True}).encode()


@dataclass(eq=False)
class Connection:
    """One that does what the test says, and remembers how it was ended."""

    num_stuck_bytes: int = 0
    awaited_request: int | None = None
    end: str = ""
    name: str = "a client"

    def abort(self) -> None:
        self.end = "aborted"

    def refuse_late_request(self) -> None:
        self.end = "refused"


def watch(slow_client_timeout_s: float = 10.0, header_timeout_s: float = 5.0) -> tuple[ClientWatch, CollectorRegistry]:
    registry = CollectorRegistry()
    return ClientWatch(slow_client_timeout_s, header_timeout_s, ConnectionMetrics(registry)), registry


def test_only_who_takes_nothing_is_ended() -> None:
    clients, registry = watch()
    stuck, slow, quick = Connection(900), Connection(900), Connection(0)
    for second in range(11):
        assert stuck.end == ""
        slow.num_stuck_bytes -= 1
        clients.look([stuck, slow, quick], float(second))
    assert [stuck.end, slow.end, quick.end] == ["aborted", "", ""]
    assert registry.get_sample_value("kvik:slow_clients_ended_total") == 1.0


def test_an_unfinished_request_has_its_time() -> None:
    clients, registry = watch()
    half, next_one = Connection(awaited_request=1), Connection(awaited_request=1)
    for second in range(6):
        next_one.awaited_request = 1 + second // 3
        clients.look([half, next_one], float(second))
    assert [half.end, next_one.end] == ["refused", ""]
    assert registry.get_sample_value("kvik:slow_requests_ended_total") == 1.0


def test_no_timeout_ends_nobody() -> None:
    clients, _ = watch(0.0, 0.0)
    client = Connection(5, 5)
    for second in (0.0, 1e9):
        clients.look([client], second)
    assert client.end == ""


@given(st.lists(st.tuples(st.floats(0.0, 4.0), st.integers(0, 2)), max_size=40))
def test_a_client_is_ended_exactly_when_it_has_not_moved_for_so_long(looks: list[tuple[float, int]]) -> None:
    clients, _ = watch(10.0)
    client = Connection()
    now_s, since_s, before = 0.0, 0.0, 0
    for wait_s, stuck in looks:
        now_s += wait_s
        if stuck != before or stuck == 0:
            since_s = now_s
        client.num_stuck_bytes = before = stuck
        clients.look([client], now_s)
        if stuck and now_s - since_s >= 10.0:
            assert client.end == "aborted"
            return
        assert client.end == ""


@pytest.mark.parametrize(
    "flags", [{"slow_client_timeout": -1.0}, {"header_timeout": float("inf")}, {"send_buffer_bytes": 0}]
)
def test_flags_that_mean_nothing(flags: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"--{next(iter(flags)).replace('_', '-')} takes"):
        ConnectionConfig(**flags)  # type: ignore[arg-type]


def deaf_client(live: Live, body: bytes) -> socket.socket:
    """Asks for a chat and takes next to nothing of the answer."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    sock.connect(("127.0.0.1", live.port))
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    sock.sendall(head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return sock


async def until_ended(live: Live, path: str = "/metrics") -> None:
    """Wait until the server says that it has ended a slow client."""
    while b"kvik:slow_clients_ended_total 1.0" not in await live.get(path):
        await asyncio.sleep(0.01)


def test_a_stream_that_nobody_reads_is_ended_and_the_one_beside_it_is_not() -> None:
    async def scenario() -> None:
        async with live_server(connections=ConnectionConfig(slow_client_timeout=0.5)) as live:
            live.llm.script = Script(["x" * 20_000] * 200)
            deaf = deaf_client(live, CHAT_STREAM)
            reader, writer = await live.open("/v1/chat/completions", CHAT_STREAM)
            received = b""
            while b"[DONE]" not in received[-100:]:
                received += await reader.read(1 << 16)
            assert len(received) > 4_000_000
            live.llm.script = Script(hold_after=150)  # what the deaf one's answer does from now on
            await until_ended(live)
            await live.until_aborted()
            assert len(live.llm.aborted) == 1, "the other one was read to its end"
            writer.close()
            deaf.close()

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_a_whole_answer_that_nobody_takes_is_ended_too() -> None:
    async def scenario() -> None:
        async with live_server(connections=ConnectionConfig(slow_client_timeout=0.5)) as live:
            live.llm.script = Script(["x" * 9_000_000])
            deaf = deaf_client(live, CHAT)
            await until_ended(live)
            deaf.close()

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_what_waits_for_a_stream_has_a_bound() -> None:
    """Counted where answers are made: what is not taken is not even put into words, but for what buffers hold."""

    async def scenario() -> int:
        async with live_server(connections=ConnectionConfig(send_buffer_bytes=10_000)) as live:
            live.llm.script = Script(["x" * 1000] * 50_000)
            answers, num_made = live.llm._answer, 0

            def counted(*args: Any) -> CompletionOutput:
                nonlocal num_made
                num_made += 1
                return answers(*args)

            live.llm._answer = counted  # type: ignore[method-assign, assignment]
            deaf = deaf_client(live, CHAT_STREAM)
            before = -1
            while not before == num_made > 0:
                before = num_made
                await asyncio.sleep(0.1)
            deaf.close()
            return num_made

    assert asyncio.run(asyncio.wait_for(scenario(), 20)) < 500


@pytest.mark.parametrize("sent", [b"", b"GET /health HTTP/1.1\r\nX-A: b"])
def test_a_head_that_never_ends_is_ended(sent: bytes) -> None:
    async def scenario() -> bytes:
        async with live_server(connections=ConnectionConfig(header_timeout=0.5)) as live:
            half_open = [await asyncio.open_connection("127.0.0.1", live.port) for _ in range(20)]
            for _, writer in half_open:
                writer.write(sent)
            assert await live.get_status("/health") == 200
            answers = [await reader.read() for reader, _ in half_open]
            for _, writer in half_open:
                writer.close()
            assert len(set(answers)) == 1
            return answers[0]

    answer = asyncio.run(asyncio.wait_for(scenario(), 20))
    assert answer.startswith(b"HTTP/1.1 408 ") if sent else answer == b""


def test_a_second_head_has_its_time_from_its_first_byte_and_a_body_after_its_answer_too() -> None:
    async def scenario() -> None:
        async with live_server(connections=ConnectionConfig(header_timeout=0.5)) as live:
            for late in (b"GET /he", b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1"):
                reader, writer = await asyncio.open_connection("127.0.0.1", live.port)
                writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
                writer.write(late)
                rest = await reader.read()
                assert b" 408 " in rest if late.startswith(b"GET") else b" 404 " in rest
                writer.close()

    asyncio.run(asyncio.wait_for(scenario(), 20))
