"""One thing goes wrong inside of a server: at most the request that it belongs to may fail, no other may change."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import httpx
import pytest

from support.faults import API_POINTS, ENGINE_POINTS, armed
from support.mixed_load import Record, mixed_requests, record_stream, stream_all
from support.server import MODEL, KvikServer

REQUESTS = mixed_requests(16)
OF_ONE_REQUEST = {"grammar", "prepare", "detokenise"}
"""Where a fault belongs to one request, which may fail; anywhere else it costs time only."""
TESTS = str(Path(__file__).parents[1])


def faulty(fault: str, done: Path) -> KvikServer:
    path = os.pathsep.join(filter(None, (TESTS, os.environ.get("PYTHONPATH"))))
    env = {"KVIK_FAULT": fault, "KVIK_FAULT_DONE": str(done), "PYTHONPATH": path}
    return KvikServer("--recovery-queue", env=env, module="support.faulty_kvik")


@pytest.fixture(scope="module")
def undisturbed(server: KvikServer) -> list[Record]:
    return asyncio.run(stream_all(server.port, REQUESTS))


def check(records: list[Record], undisturbed: list[Record], most_failed: int) -> None:
    failed = [record for record in records if record.error is not None]
    assert len(failed) <= most_failed, [record.error for record in failed]
    assert all(record.is_complete for record in records)
    for record, expected in zip(records, undisturbed, strict=True):
        assert record.error is not None or record == expected


def run_with(point: str, nth: int, undisturbed: list[Record], folder: Path) -> None:
    done = folder / "done"
    with faulty(f"{point}:{nth}", done) as server:
        armed(done).touch()
        records = asyncio.run(stream_all(server.port, REQUESTS))
        assert done.exists(), "the fault has not happened"
        check(records, undisturbed, most_failed=point in OF_ONE_REQUEST)
        assert asyncio.run(stream_all(server.port, REQUESTS)) == undisturbed, "what it leaves behind"
        assert server.process.poll() is None


@pytest.mark.parametrize("point", ["segfault", "detokenise"])
def test_a_fault(point: str, undisturbed: list[Record], tmp_path: Path) -> None:
    run_with(point, 30, undisturbed, tmp_path)


@pytest.mark.chaos
@pytest.mark.timeout(300)
@pytest.mark.parametrize("point", sorted({*ENGINE_POINTS, *API_POINTS}))
@pytest.mark.parametrize("nth", [1, 2, 40])
def test_every_fault(point: str, nth: int, undisturbed: list[Record], tmp_path: Path) -> None:
    run_with(point, min(nth, 2) if point == "prepare" else nth, undisturbed, tmp_path)


def test_a_request_that_ends_every_engine_ends_alone(undisturbed: list[Record], tmp_path: Path) -> None:
    """Sixteen streams run; one more comes that no engine survives."""

    async def run(server: KvikServer) -> tuple[list[Record], Record]:
        streaming = asyncio.create_task(stream_all(server.port, REQUESTS))
        headers = {"X-Request-Id": "poison"}
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{server.port}", timeout=120, headers=headers
        ) as client:
            while (await client.get("/load")).json()["server_load"] < len(REQUESTS):
                await asyncio.sleep(0.01)
            body = dict(model=MODEL, prompt="I am", max_tokens=5, stream=True)
            poison = await record_stream(client, "/v1/completions", body)
        return await streaming, poison

    path = os.pathsep.join(filter(None, (TESTS, os.environ.get("PYTHONPATH"))))
    env = {"KVIK_FAULT": "poison:poison", "PYTHONPATH": path}
    with KvikServer("--enable-server-load-tracking", env=env, module="support.faulty_kvik") as server:
        records, poison = asyncio.run(run(server))
        assert records == undisturbed
        assert "not tried again" in poison.error["message"]
        assert server.metric("vllm:engine_restarts_total") == 2
        assert server.request("GET", "/health")[0] == 200
