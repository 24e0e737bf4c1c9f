"""The engine dies and is replaced: what the next one is told, and what clients see of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from fakes.byte_tokenizer import byte_tokenizer
from fakes.engine_config import engine_config, engine_facts
from fakes.fake_core_client import FakeCoreClient
from kvik.config.recovery import RecoveryConfig
from kvik.engine_client.async_llm import AsyncLLM
from kvik.engine_client.protocol import OutputStream
from kvik.errors import EngineDeadError, EngineRequestError, RecoveringError
from kvik.messages import FinishReason
from kvik.sampling_params import OutputKind, SamplingParams
from kvik.text.chat_template import ChatTemplate
from kvik.wire.pulse import PulseReading, Stage

STREAMED = SamplingParams(output_kind=OutputKind.DELTA)


class Gated(FakeCoreClient):
    """Restarts when the test lets it."""

    def __init__(self, num_restarts: int = 1) -> None:
        super().__init__()
        self.num_restarts_left = num_restarts
        self.gate = asyncio.Event()
        self.is_waiting = asyncio.Event()

    async def restart(self, reason: str) -> None:
        self.is_waiting.set()
        await self.gate.wait()
        await super().restart(reason)

    def crash(self, *engine_ids: str) -> None:
        """Die in a step of these requests."""
        self.pulse = PulseReading(1, 1, Stage.COMPUTING, engine_ids)
        self.is_waiting.clear()
        self.fail(EngineDeadError("killed"))


def with_llm(test: Callable[[AsyncLLM, Gated], Awaitable[None]], *, queues: bool = False, restarts: int = 1) -> None:
    async def run() -> None:
        client = Gated(restarts)
        recovery = RecoveryConfig(recovery_queue=queues)
        llm = AsyncLLM(engine_config(), client, engine_facts(), byte_tokenizer(), ChatTemplate(None), recovery=recovery)
        try:
            await asyncio.wait_for(test(llm, client), 20)
        finally:
            await llm.shutdown()

    asyncio.run(run())


async def back(llm: AsyncLLM, client: Gated) -> None:
    """Let the restart happen, and all that follows from it."""
    await client.is_waiting.wait()
    client.gate.set()
    while llm.is_recovering:
        await asyncio.sleep(0)


async def texts(stream: OutputStream) -> list[str]:
    return [output.outputs[0].text async for output in stream]


def test_a_stream_goes_on_from_its_last_token() -> None:
    async def test(llm: AsyncLLM, client: Gated) -> None:
        stream = await llm.add_request("ab", STREAMED, "id")
        first = client.requests[0]
        client.tokens([97, 98])
        assert (await anext(stream)).outputs[0].text == "ab"
        client.crash(first.request_id)
        await back(llm, client)
        (again,) = client.requests
        assert again.resumed is not None
        assert again.resumed.output_token_ids == [97, 98]
        assert (again.request_id, again.sampling_params) == (first.request_id, first.sampling_params)
        client.tokens([99], FinishReason.LENGTH)
        (last,) = [output async for output in stream]
        assert (last.outputs[0].text, last.outputs[0].token_ids, last.finished) == ("c", [99], True)

    with_llm(test)


def test_a_request_that_has_nothing_yet_begins_again() -> None:
    async def test(llm: AsyncLLM, client: Gated) -> None:
        await llm.add_request("ab", STREAMED, "id")
        client.crash()
        await back(llm, client)
        assert [r.resumed for r in client.requests] == [None]

    with_llm(test)


def test_answers_that_have_ended_are_not_asked_for_again() -> None:
    async def test(llm: AsyncLLM, client: Gated) -> None:
        stream = await llm.add_request("ab", SamplingParams(n=2, output_kind=OutputKind.DELTA), "id")
        client.tokens([97], FinishReason.STOP, request=0)
        client.tokens([98], request=1)
        await anext(stream)
        second = client.requests[1].request_id
        client.crash(second)
        await back(llm, client)
        assert [r.request_id for r in client.requests] == [second]
        client.tokens([99], FinishReason.LENGTH)
        await texts(stream)
        assert llm.num_open_requests == 0

    with_llm(test)


@pytest.mark.parametrize("queues", [False, True])
def test_new_requests_meanwhile(queues: bool) -> None:
    async def test(llm: AsyncLLM, client: Gated) -> None:
        client.crash()
        await client.is_waiting.wait()
        assert llm.is_recovering
        if queues:
            await llm.add_request("ab", STREAMED, "id")
        else:
            with pytest.raises(RecoveringError):
                await llm.add_request("ab", STREAMED, "id")
        assert client.requests == []
        await back(llm, client)
        assert len(client.requests) == queues
        await llm.add_request("ab", STREAMED, "id")

    with_llm(test, queues=queues)


def test_who_leaves_meanwhile_is_forgotten() -> None:
    async def test(llm: AsyncLLM, client: Gated) -> None:
        stream = await llm.add_request("ab", STREAMED, "id")
        client.crash(client.requests[0].request_id)
        await client.is_waiting.wait()
        await stream.aclose()
        await back(llm, client)
        assert client.requests == []
        assert llm.num_open_requests == 0

    with_llm(test)


def test_a_request_that_ends_engines_is_ended_and_its_neighbour_goes_on() -> None:
    async def test(llm: AsyncLLM, client: Gated) -> None:
        bad, good = [await llm.add_request("ab", STREAMED, name) for name in ("bad", "good")]
        bad_id, good_id = [r.request_id for r in client.requests]
        client.crash(bad_id, good_id)
        await back(llm, client)
        assert [r.request_id for r in client.requests] == [bad_id]
        client.crash(bad_id)
        await back(llm, client)
        with pytest.raises(EngineRequestError, match="not tried again"):
            await anext(bad)
        assert [r.request_id for r in client.requests] == [good_id]
        client.tokens([97], FinishReason.LENGTH)
        assert await texts(good) == ["a"]

    with_llm(test, restarts=2)


def test_what_cannot_be_read_is_computed_again() -> None:
    async def test(llm: AsyncLLM, client: Gated) -> None:
        stream = await llm.add_request("ab", STREAMED, "id")
        client.fail(ValueError("half a message"))
        await back(llm, client)
        client.tokens([97], FinishReason.LENGTH)
        assert await texts(stream) == ["a"]

    with_llm(test)


def test_the_last_death_ends_all_streams() -> None:
    async def test(llm: AsyncLLM, client: Gated) -> None:
        stream = await llm.add_request("ab", STREAMED, "id")
        client.gate.set()
        client.crash()
        with pytest.raises(EngineDeadError):
            await anext(stream)
        assert llm.is_dead
        assert not llm.is_recovering

    with_llm(test, restarts=0)


def test_a_paused_engine_is_paused_again_and_keeps_its_requests() -> None:
    async def test(llm: AsyncLLM, client: Gated) -> None:
        await llm.add_request("ab", STREAMED, "kept")
        kept = client.requests[0].request_id
        await llm.control.pause("keep", clear_cache=False)
        client.calls.clear()
        client.crash()
        await back(llm, client)
        assert client.calls == [("pause", ())]
        assert client.requests == []
        await llm.control.resume()
        assert [r.request_id for r in client.requests] == [kept]

    with_llm(test)


def test_a_death_during_the_return_is_met_again() -> None:
    async def test(llm: AsyncLLM, client: Gated) -> None:
        stream = await llm.add_request("ab", STREAMED, "id")
        client.gate.set()
        client.crash()
        client.fail(EngineDeadError("again"))
        while client.num_restarts_left:
            await asyncio.sleep(0)
        await back(llm, client)
        client.tokens([97], FinishReason.LENGTH)
        assert await texts(stream) == ["a"]

    with_llm(test, restarts=2)
