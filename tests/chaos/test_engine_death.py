"""The engine process is killed, or stopped, under streams of all kinds: no client may notice more than a pause."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time

import httpx
import pytest

from support.mixed_load import Record, mixed_requests, stream_all
from support.server import MODEL, KvikServer, eventually

NUM_STREAMS = 64
BACK_WITHIN_S = 5.0


@pytest.fixture(scope="module")
def undisturbed(server: KvikServer) -> tuple[list[Record], float]:
    """What the streams are when nothing happens, and how long they take together."""
    started_s = time.monotonic()
    records = asyncio.run(stream_all(server.port, mixed_requests(NUM_STREAMS)))
    assert all(record.is_complete and record.error is None for record in records)
    return records, time.monotonic() - started_s


async def disturb(server: KvikServer, signal_number: signal.Signals, delay_s: float) -> tuple[list[Record], float]:
    """The streams with a signal to the engine in between, and the seconds until the server was ready again."""
    streaming = asyncio.create_task(stream_all(server.port, mixed_requests(NUM_STREAMS)))
    await asyncio.sleep(delay_s)
    engine = server.engine_pid()
    os.kill(engine, signal_number)
    started_s = time.monotonic()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
        while server.find_engine() in (engine, None) or (await client.get("/health")).status_code != 200:
            assert time.monotonic() - started_s < 60, server.log[-5000:]
            await asyncio.sleep(0.02)
    back_s = time.monotonic() - started_s
    return await streaming, back_s


def check_kills(server: KvikServer, undisturbed: tuple[list[Record], float], num_kills: int) -> list[float]:
    expected, duration_s = undisturbed
    moments = random.Random(20)
    times_s = []
    for _ in range(num_kills):
        delay_s = moments.uniform(0.0, 0.9 * duration_s)
        records, back_s = asyncio.run(disturb(server, signal.SIGKILL, delay_s))
        assert records == expected, f"killed after {delay_s:.2f} s"
        times_s.append(back_s)
    return times_s


def test_a_killed_engine_loses_nothing(server: KvikServer, undisturbed: tuple[list[Record], float]) -> None:
    check_kills(server, undisturbed, 1)
    assert server.metric("vllm:engine_restarts_total") >= 1
    assert server.metric("vllm:requests_resumed_total") > 0


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_twenty_killed_engines_lose_nothing(server: KvikServer, undisturbed: tuple[list[Record], float]) -> None:
    times_s = check_kills(server, undisturbed, 20)
    assert max(times_s) <= BACK_WITHIN_S
    print(f"20 kills under {NUM_STREAMS} streams: back in {sorted(times_s)[10]:.2f} s, at most {max(times_s):.2f} s")


def test_a_stopped_engine_is_noticed_and_replaced(server: KvikServer, undisturbed: tuple[list[Record], float]) -> None:
    expected, duration_s = undisturbed
    records, back_s = asyncio.run(disturb(server, signal.SIGSTOP, 0.5 * duration_s))
    assert records == expected
    assert back_s <= 2.0 + 1.0 + 2 * BACK_WITHIN_S  # the bar itself is for a machine that does nothing else
    assert "has made no progress for" in server.log


def test_health_tells_of_the_recovery() -> None:
    with KvikServer() as server, httpx.Client(base_url=f"http://127.0.0.1:{server.port}") as client:
        os.kill(server.engine_pid(), signal.SIGKILL)
        while (health := client.get("/health")).status_code == 200:
            pass
        refused = client.post("/v1/completions", json=dict(model=MODEL, prompt="a", max_tokens=1))
        ready, live = client.get("/ready"), client.get("/live")
        assert (health.status_code, health.json()) == (503, {"status": "recovering"})
        assert (ready.status_code, live.status_code) == (503, 200)
        assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
        assert eventually(lambda: client.get("/health").status_code == 200)
        answer = client.post("/v1/completions", json=dict(model=MODEL, prompt="a", max_tokens=3), timeout=60)
        assert answer.status_code == 200


def test_requests_are_held_during_a_recovery_if_asked() -> None:
    with KvikServer("--recovery-queue") as server, httpx.Client(base_url=f"http://127.0.0.1:{server.port}") as client:
        os.kill(server.engine_pid(), signal.SIGKILL)
        while client.get("/health").status_code == 200:
            pass
        answer = client.post("/v1/completions", json=dict(model=MODEL, prompt="a", max_tokens=3), timeout=60)
        assert answer.status_code == 200
        assert answer.json()["usage"]["completion_tokens"] == 3
