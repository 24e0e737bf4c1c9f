"""The desk as `AsyncLLM` uses it: order, time limits, crashes and what the metrics are told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from fakes.byte_tokenizer import byte_tokenizer
from fakes.engine_config import engine_config, engine_facts
from fakes.fake_core_client import FakeCoreClient
from kvik.config.admission import AdmissionConfig
from kvik.engine_client.admission.ticket import Ticket
from kvik.engine_client.async_llm import AsyncLLM
from kvik.errors import DeadlineExceededError, EngineDeadError, QueueFullError
from kvik.messages import FinishReason, SchedulerStats
from kvik.sampling_params import OutputKind, SamplingParams
from kvik.telemetry.stats import IterationStats
from kvik.text.chat_template import ChatTemplate

STREAMED = SamplingParams(output_kind=OutputKind.DELTA)


class Recorder:
    def __init__(self) -> None:
        self.num_waiting: list[int] = []
        self.rejections: list[str] = []

    def record(self, stats: SchedulerStats | None, iteration: IterationStats | None) -> None:
        if stats is not None:
            self.num_waiting.append(stats.num_waiting)

    def record_sleep(self, level: int | None) -> None: ...

    def record_recovery(self, num_requests: int) -> None: ...

    def record_rejection(self, reason: str) -> None:
        self.rejections.append(reason)


def with_llm(
    test: Callable[[AsyncLLM, FakeCoreClient, Recorder], Awaitable[None]], *, max_seqs: int = 1, **flags: float
) -> None:
    """An engine with one slot."""

    async def run() -> None:
        client, recorder = FakeCoreClient(), Recorder()
        client.num_restarts_left = 1
        asked = engine_config()
        config = replace(asked, scheduler=replace(asked.scheduler, max_num_seqs=max_seqs))
        llm = AsyncLLM(
            config, client, engine_facts(), byte_tokenizer(), ChatTemplate(None), stat_logger=recorder,
            admission=AdmissionConfig(**flags),  # type: ignore[arg-type]
        )  # fmt: skip
        try:
            await asyncio.wait_for(test(llm, client, recorder), 20)
        finally:
            await llm.shutdown()

    asyncio.run(run())


def test_a_request_waits_for_its_slot_and_is_counted() -> None:
    async def test(llm: AsyncLLM, client: FakeCoreClient, recorder: Recorder) -> None:
        first = await llm.add_request("a", STREAMED, "first")
        second = await llm.add_request("b", STREAMED, "second")
        assert len(client.requests) == 1
        client.tokens([97])
        await anext(first)
        assert recorder.num_waiting[-1] == 1
        client.tokens([97], FinishReason.LENGTH)
        assert [o async for o in first]
        assert len(client.requests) == 2
        client.tokens([98], FinishReason.LENGTH)
        assert [o.outputs[0].text async for o in second] == ["b"]

    with_llm(test)


def test_aborted_while_it_waits() -> None:
    async def test(llm: AsyncLLM, client: FakeCoreClient, recorder: Recorder) -> None:
        first = await llm.add_request("a", STREAMED, "first")
        second = await llm.add_request("b", STREAMED, "second")
        assert await llm.abort("second") == 1
        assert [o.outputs[0].finish_reason async for o in second] == ["abort"]
        await first.aclose()
        assert len(client.requests) == 1
        assert llm.num_open_requests == 0

    with_llm(test)


def test_a_reader_that_leaves_makes_room() -> None:
    async def test(llm: AsyncLLM, client: FakeCoreClient, recorder: Recorder) -> None:
        first = await llm.add_request("a", STREAMED, "first")
        second = await llm.add_request("b", STREAMED, "second")
        await first.aclose()
        assert len(client.requests) == 2
        await second.aclose()

    with_llm(test)


def test_a_new_engine_is_not_sent_what_the_old_one_was_not() -> None:
    async def test(llm: AsyncLLM, client: FakeCoreClient, recorder: Recorder) -> None:
        first = await llm.add_request("a", STREAMED, "first")
        second = await llm.add_request("b", STREAMED, "second")
        started = client.requests[0].request_id
        client.fail(EngineDeadError("killed"))
        while client.num_restarts_left or llm.is_recovering:
            await asyncio.sleep(0)
        assert [r.request_id for r in client.requests] == [started]
        client.tokens([97], FinishReason.LENGTH)
        assert [o.outputs[0].text async for o in first] == ["a"]
        client.tokens([98], FinishReason.LENGTH)
        assert [o.outputs[0].text async for o in second] == ["b"]

    with_llm(test)


def test_a_request_ends_when_it_has_waited_for_too_long() -> None:
    async def test(llm: AsyncLLM, client: FakeCoreClient, recorder: Recorder) -> None:
        first = await llm.add_request("a", STREAMED, "first")
        second = await llm.add_request("b", STREAMED, "second")
        with pytest.raises(QueueFullError, match="--queue-timeout"):
            await anext(second)
        assert recorder.rejections == ["queue_timeout"]
        assert llm.num_open_requests == 1
        client.tokens([97], FinishReason.LENGTH)
        assert [o.outputs[0].text async for o in first] == ["a"]
        assert len(client.requests) == 1

    with_llm(test, queue_timeout=0.01)


def test_deadlines_end_who_waits_and_who_runs() -> None:
    async def test(llm: AsyncLLM, client: FakeCoreClient, recorder: Recorder) -> None:
        soon_s = time.monotonic() + 0.02
        first = await llm.add_request("a", STREAMED, "first", ticket=Ticket(deadline_s=soon_s + 0.02))
        second = await llm.add_request("b", STREAMED, "second", ticket=Ticket(deadline_s=soon_s))
        with pytest.raises(QueueFullError, match="still waited"):
            await anext(second)
        with pytest.raises(DeadlineExceededError, match="before its answer was complete"):
            await anext(first)
        assert client.requests[0].request_id in client.aborted
        assert llm.num_open_requests == 0

    with_llm(test)


def test_a_paused_engine_gets_all_sequences_of_a_request_later() -> None:
    async def test(llm: AsyncLLM, client: FakeCoreClient, recorder: Recorder) -> None:
        first = await llm.add_request("a", STREAMED, "first")
        await llm.control.pause("keep")
        pair = await llm.add_request("b", SamplingParams(n=2, output_kind=OutputKind.DELTA), "pair")
        await first.aclose()
        assert len(client.requests) == 1
        await llm.control.resume()
        assert len(client.requests) == 3
        await pair.aclose()

    with_llm(test, max_seqs=2)
