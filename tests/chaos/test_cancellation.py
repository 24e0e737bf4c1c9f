"""Requests are ended in every state that they can be in, by their id and by leaving; nothing of them stays."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import httpx
import pytest

from support.mixed_load import mixed_requests, record_stream
from support.server import MODEL, KvikServer, eventually

WITHIN_S = 2.0


@pytest.fixture(scope="module")
def narrow() -> Iterator[KvikServer]:
    """One request runs at a time, so that others wait."""
    with KvikServer("--max-num-seqs", "1", env={"KVIK_SERVER_DEV_MODE": "1"}) as running:
        yield running


def is_idle(server: KvikServer) -> bool:
    return server.metric("vllm:num_requests_running") + server.metric("vllm:num_requests_waiting") == 0


def is_clean(server: KvikServer) -> bool:
    return is_idle(server) and server.metric("vllm:kv_cache_usage_perc") == 0


def long_answer(**more: object) -> dict[str, object]:
    return dict(model=MODEL, prompt="Count:", max_tokens=4000, ignore_eos=True, temperature=0, stream=True, **more)


@pytest.mark.parametrize("state", ["running", "waiting", "n answers", "several prompts", "long prompt", "grammar"])
def test_by_id(narrow: KvikServer, state: str) -> None:
    """A victim of each kind beside one that runs already, which must not notice."""
    kinds: dict[str, dict[str, object]] = {
        "n answers": {"n": 4},
        "several prompts": {"prompt": ["a", "b", "c"]},
        "long prompt": {"prompt": "word " * 7000, "max_tokens": 100},
        "grammar": {"structured_outputs": {"regex": "(ab){1,400}"}},
    }

    async def run() -> None:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{narrow.port}", timeout=60) as client:
            first = asyncio.create_task(
                record_stream(client, "/v1/completions", long_answer() | {"max_tokens": 150}, {"X-Request-Id": "first"})
            )
            while narrow.metric("vllm:num_requests_running") < 1:
                await asyncio.sleep(0.01)
            if state == "running":
                await client.post("/v1/abort", json={"request_ids": ["cmpl-first"]})
                assert next(iter((await first).answers.values())).finish_reason == "abort"
                return
            body = long_answer() | kinds.get(state, {})
            victim = asyncio.create_task(record_stream(client, "/v1/completions", body, {"X-Request-Id": "victim"}))
            num_ended = 0
            while not num_ended:
                answer = await client.post("/v1/abort", json={"request_ids": ["cmpl-victim"]})
                num_ended = answer.json()["aborted"]
            record = await asyncio.wait_for(victim, WITHIN_S)
            assert {a.finish_reason for a in record.answers.values()} == {"abort"}
            assert next(iter((await first).answers.values())).finish_reason == "length"

    asyncio.run(run())
    assert eventually(lambda: is_clean(narrow), within_s=WITHIN_S)


def test_of_a_paused_engine(narrow: KvikServer) -> None:
    async def run() -> None:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{narrow.port}", timeout=60) as client:
            await client.post("/pause?mode=keep")
            held = asyncio.create_task(
                record_stream(client, "/v1/completions", long_answer(), {"X-Request-Id": "held"})
            )
            while not (await client.post("/v1/abort", json={"request_ids": ["cmpl-held"]})).json()["aborted"]:
                await asyncio.sleep(0.01)
            record = await asyncio.wait_for(held, WITHIN_S)
            assert record.answers[0].finish_reason == "abort"
            await client.post("/resume")

    asyncio.run(run())
    assert is_clean(narrow)


def test_a_storm_of_clients_that_leave(server: KvikServer) -> None:
    """250 streams, all closed in their middle: nothing runs two seconds later."""

    async def leave(client: httpx.AsyncClient, path: str, body: dict[str, object]) -> None:
        async with client.stream("POST", path, json=body) as answer:
            async for _ in answer.aiter_lines():
                break

    async def run() -> None:
        limits = httpx.Limits(max_connections=600)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", limits=limits, timeout=120) as client:
            requests = [(path, body | {"max_tokens": 400}) for path, body in mixed_requests(250)]
            await asyncio.gather(*(leave(client, path, body) for path, body in requests))

    asyncio.run(run())
    started_s = time.monotonic()
    assert eventually(lambda: is_clean(server), within_s=WITHIN_S), f"{time.monotonic() - started_s:.1f} s"


def test_ids_are_asked_for(server: KvikServer) -> None:
    for body in ({}, {"request_ids": []}, {"request_ids": "a"}):
        status, answer, _ = server.request("POST", "/v1/abort", body)
        assert (status, answer["error"]["param"]) == (400, "body.request_ids")
    assert server.request("POST", "/v1/abort", {"request_ids": ["nobody"]})[1] == {"status": "aborted", "aborted": 0}
