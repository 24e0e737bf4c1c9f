"""Pauses and sleep as the API process sees them: who is refused, held, waited for, and sent on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from fakes.byte_tokenizer import EOS, byte_tokenizer
from fakes.engine_config import engine_config, engine_facts
from fakes.fake_core_client import FakeCoreClient
from kvik.engine_client.async_llm import AsyncLLM
from kvik.engine_client.control import EngineControl
from kvik.errors import EngineDeadError, EngineError, InvalidRequestError, OverloadedError
from kvik.messages import FinishReason
from kvik.sampling_params import OutputKind, SamplingParams
from kvik.text.chat_template import ChatTemplate

STREAMED = SamplingParams(output_kind=OutputKind.DELTA)


def with_llm(test: Callable[[AsyncLLM, FakeCoreClient], Awaitable[None]]) -> None:
    async def run() -> None:
        client = FakeCoreClient()
        client.call_result = False
        llm = AsyncLLM(engine_config(), client, engine_facts(), byte_tokenizer(), ChatTemplate(None))
        llm.control = EngineControl(client, llm.abort_all, may_sleep=True)
        try:
            await asyncio.wait_for(test(llm, client), 20)
        finally:
            await llm.shutdown()

    asyncio.run(run())


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_sleeping_engine_takes_no_requests() -> None:
    async def test(llm: AsyncLLM, client: FakeCoreClient) -> None:
        open_before = await llm.add_request("a", STREAMED, "a")
        await llm.control.sleep(1)
        assert client.calls == [("sleep", (1,))]
        assert [o.outputs[0].finish_reason async for o in open_before] == ["abort"]
        assert client.aborted == [client.requests[0].request_id]
        with pytest.raises(OverloadedError, match="/wake_up"):
            await llm.add_request("b", STREAMED, "b")
        assert await llm.control.wake_up() is False
        await llm.add_request("c", STREAMED, "c")
        assert len(client.requests) == 2

    with_llm(test)


def test_kept_requests_and_those_that_come_go_on_after_the_sleep() -> None:
    async def test(llm: AsyncLLM, client: FakeCoreClient) -> None:
        await llm.add_request("a", STREAMED, "a")
        await llm.control.sleep(2, "keep")
        assert client.aborted == []
        await llm.add_request("b", STREAMED, "b")
        gone = await llm.add_request("c", STREAMED, "c")
        await gone.aclose()
        assert len(client.requests) == 1
        client.call_result = True
        assert await llm.control.wake_up(["weights"]) is True
        assert len(client.requests) == 1
        client.call_result = False
        assert await llm.control.wake_up(["kv_cache"]) is False
        assert [r.request_id.split("-")[0] for r in client.requests] == ["a", "b"]

    with_llm(test)


def test_sleep_waits_for_those_that_run_only() -> None:
    async def test(llm: AsyncLLM, client: FakeCoreClient) -> None:
        stream = await llm.add_request("a", STREAMED, "a")
        sleeping = asyncio.create_task(llm.control.sleep(1, "wait"))
        await settle()
        assert client.calls == []
        with pytest.raises(OverloadedError):
            await llm.add_request("b", STREAMED, "b")
        client.tokens([EOS], FinishReason.STOP)
        assert [o.outputs[0].finish_reason async for o in stream] == ["stop"]
        await sleeping
        assert client.calls == [("sleep", (1,))]

    with_llm(test)


def test_a_pause_holds_what_comes() -> None:
    async def test(llm: AsyncLLM, client: FakeCoreClient) -> None:
        await llm.control.pause("keep", clear_cache=False)
        await llm.add_request("a", STREAMED, "a")
        assert (client.requests, llm.control.is_paused) == ([], True)
        await llm.control.resume()
        assert len(client.requests) == 1
        assert [name for name, _ in client.calls] == ["pause", "resume"]

    with_llm(test)


def test_a_pause_that_waits_does_not_wait_for_those_it_holds() -> None:
    async def test(llm: AsyncLLM, client: FakeCoreClient) -> None:
        stream = await llm.add_request("a", STREAMED, "a")
        pausing = asyncio.create_task(llm.control.pause("wait"))
        await settle()
        await llm.add_request("b", STREAMED, "b")
        client.tokens([EOS], FinishReason.STOP)
        assert [o.outputs[0].finish_reason async for o in stream] == ["stop"]
        await pausing
        assert client.calls == [("pause", ()), ("reset_prefix_cache", (True,))]
        assert len(client.requests) == 1

    with_llm(test)


def test_what_wakes_in_a_pause_stays_held() -> None:
    async def test(llm: AsyncLLM, client: FakeCoreClient) -> None:
        await llm.control.pause("keep", clear_cache=False)
        await llm.control.sleep(1, "keep")
        await llm.add_request("a", STREAMED, "a")
        await llm.control.wake_up()
        assert client.requests == []
        await llm.control.resume()
        assert len(client.requests) == 1

    with_llm(test)


def test_a_sleep_that_fails_leaves_it_awake() -> None:
    async def test(llm: AsyncLLM, client: FakeCoreClient) -> None:
        async def refuse(method: str, *args: object) -> object:
            raise EngineError("no")

        client.utility = refuse  # type: ignore[method-assign]
        with pytest.raises(EngineError):
            await llm.control.sleep(1)
        assert llm.control.level is None
        await llm.add_request("a", STREAMED, "a")

    with_llm(test)


def test_a_death_ends_the_wait() -> None:
    async def test(llm: AsyncLLM, client: FakeCoreClient) -> None:
        stream = await llm.add_request("a", STREAMED, "a")
        pausing = asyncio.create_task(llm.control.pause("wait"))
        await settle()
        client.fail(EngineDeadError("dead"))
        with pytest.raises(EngineDeadError):
            await anext(stream)
        await pausing

    with_llm(test)


def test_without_the_flag_nobody_sleeps() -> None:
    async def run() -> None:
        control = EngineControl(FakeCoreClient(), lambda: None)
        with pytest.raises(InvalidRequestError, match="--enable-sleep-mode"):
            await control.sleep(1)

    asyncio.run(run())


def test_a_gpu_does_not_get_memory_back_by_itself() -> None:
    async def run() -> None:
        control = EngineControl(FakeCoreClient(), lambda: None, device="cuda")
        with pytest.raises(InvalidRequestError, match="POST /sleep"):
            await control.release_kv_cache_memory()

    asyncio.run(run())
