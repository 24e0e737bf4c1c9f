from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from fakes.byte_tokenizer import EOS, HELLO, byte_tokenizer
from fakes.engine_config import MAX_MODEL_LEN, engine_config, engine_facts
from fakes.fake_core_client import FakeCoreClient
from kvik.config import EngineConfig
from kvik.config.admission import AdmissionConfig
from kvik.engine_client.admission.ticket import Ticket
from kvik.engine_client.async_llm import AsyncLLM
from kvik.engine_client.protocol import EngineClient, OutputStream
from kvik.errors import (
    EngineDeadError,
    EngineRequestError,
    InvalidRequestError,
    OverloadedError,
    QueueFullError,
    WireError,
)
from kvik.messages import FinishReason, SchedulerStats
from kvik.sampling_params import OutputKind, SamplingParams
from kvik.telemetry.stats import IterationStats
from kvik.text.chat_template import ChatTemplate
from kvik.text.outputs import RequestOutput

STREAMED = SamplingParams(output_kind=OutputKind.DELTA)


class RecordingLogger:
    def __init__(self, fails: bool = False) -> None:
        self.records: list[tuple[SchedulerStats | None, IterationStats | None]] = []
        self.levels: list[int | None] = []
        self._fails = fails

    def record(self, stats: SchedulerStats | None, iteration: IterationStats | None) -> None:
        if self._fails:
            raise RuntimeError("no disk")
        self.records.append((stats, iteration))

    def record_sleep(self, level: int | None) -> None:
        self.levels.append(level)


def with_llm(
    test: Callable[[AsyncLLM, FakeCoreClient], Awaitable[None]],
    logger: RecordingLogger | None = None,
    config: EngineConfig | None = None,
    admission: AdmissionConfig = AdmissionConfig(),  # noqa: B008
) -> None:
    """Run a test in an event loop, with an engine of its own."""

    async def run() -> None:
        client = FakeCoreClient()
        llm = AsyncLLM(
            config or engine_config(), client, engine_facts(), byte_tokenizer(), ChatTemplate(None),
            stat_logger=logger, admission=admission,
        )  # fmt: skip
        try:
            await asyncio.wait_for(test(llm, client), 20)
        finally:
            await llm.shutdown()
        assert client.is_shut_down
        assert llm.num_open_requests == 0

    asyncio.run(run())


async def texts(stream: OutputStream) -> list[str]:
    return [o.outputs[0].text async for o in stream]


async def settle() -> None:
    """Let all tasks that can run do so."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_generate() -> None:
    async def test(llm: AsyncLLM, client: FakeCoreClient) -> None:
        outputs: list[RequestOutput] = []
        async for output in llm.generate("say", STREAMED, "id"):
            outputs.append(output)
            client.tokens([HELLO] if len(outputs) == 1 else [EOS], None if len(outputs) == 1 else FinishReason.STOP)
        assert [o.outputs[0].text for o in outputs] == ["a", " hello", ""]
        assert client.aborted == []

    async def wrapped(llm: AsyncLLM, client: FakeCoreClient) -> None:
        task = asyncio.create_task(test(llm, client))
        await settle()
        client.tokens([97])
        await task

    with_llm(wrapped)


def test_requests_do_not_mix() -> None:
    async def test(llm: AsyncLLM, client: FakeCoreClient) -> None:
        streams = [await llm.add_request("a", STREAMED, "same id") for _ in range(3)]
        assert len({r.request_id for r in client.requests}) == 3
        for i in range(3):
            client.tokens([97 + i], FinishReason.LENGTH, request=i)
        assert await asyncio.gather(*map(texts, streams)) == [["a"], ["b"], ["c"]]

    with_llm(test)


def test_bad_requests_are_refused_before_anything_is_sent() -> None:
    async def test(llm: AsyncLLM, client: FakeCoreClient) -> None:
        with pytest.raises(InvalidRequestError):
            await llm.add_request("x" * (MAX_MODEL_LEN + 1), STREAMED, "id")
        with pytest.raises(InvalidRequestError):
            await anext(llm.generate([], STREAMED, "id"))
        with pytest.raises(InvalidRequestError, match="request_id"):
            await llm.add_request("a", STREAMED, "\ud800")
        assert client.sent == []

    with_llm(test)


def test_a_request_that_cannot_be_sent_leaves_nothing_behind() -> None:
    async def test(llm: AsyncLLM, client: FakeCoreClient) -> None:
        client.send_error = WireError("too odd to send")
        with pytest.raises(WireError):
            await llm.add_request("a", STREAMED, "id")
        client.send_error = None
        assert llm.num_open_requests == 0

    with_llm(test)


def test_closing_a_generator_aborts_at_once() -> None:
    async def test(llm: AsyncLLM, client: FakeCoreClient) -> None:
        generator = llm.generate("a", SamplingParams(n=2, output_kind=OutputKind.DELTA), "id")
        reading = asyncio.ensure_future(anext(generator))
        await settle()
        client.tokens([97])
        await reading
        await generator.aclose()  # type: ignore[attr-defined]
        assert client.aborted == [r.request_id for r in client.requests]
        client.tokens([97])  # too late, and of no effect
        await settle()

    with_llm(test)


def test_cancelling_a_waiting_reader_aborts_at_once() -> None:
    async def test(llm: AsyncLLM, client: FakeCoreClient) -> None:
        async def read() -> None:
            async for _ in llm.generate("a", STREAMED, "id"):
                pass

        reading = asyncio.create_task(read())
        await settle()
        reading.cancel()
        await asyncio.wait((reading,))
        assert reading.cancelled()
        assert client.aborted == [client.requests[0].request_id]

    with_llm(test)


def test_abort_gives_the_reader_a_last_output() -> None:
    async def test(llm: AsyncLLM, client: FakeCoreClient) -> None:
        stream = await llm.add_request("a", STREAMED, "id")
        await llm.abort("id")
        await llm.abort("id")
        (output,) = [o async for o in stream]
        assert output.outputs[0].finish_reason == "abort"
        assert client.aborted == [client.requests[0].request_id]

    with_llm(test)


def test_a_stop_string_aborts_the_engines_request() -> None:
    async def test(llm: AsyncLLM, client: FakeCoreClient) -> None:
        stream = await llm.add_request("a", SamplingParams(stop=["lo"], output_kind=OutputKind.DELTA), "id")
        client.tokens([HELLO])
        assert await texts(stream) == [" hel"]
        assert client.aborted == [client.requests[0].request_id]

    with_llm(test)


def test_a_failed_request_fails_alone() -> None:
    async def test(llm: AsyncLLM, client: FakeCoreClient) -> None:
        bad = await llm.add_request("a", STREAMED, "bad")
        good = await llm.add_request("a", STREAMED, "good")
        client.tokens([], FinishReason.ERROR, request=0, error="cursed")
        client.tokens([97], FinishReason.LENGTH, request=1)
        with pytest.raises(EngineRequestError, match="cursed"):
            await anext(bad)
        assert await texts(good) == ["a"]
        assert not llm.is_dead

    with_llm(test)


def test_the_death_of_the_engine_reaches_every_stream() -> None:
    async def test(llm: AsyncLLM, client: FakeCoreClient) -> None:
        streams = [await llm.add_request("a", STREAMED, "id") for _ in range(2)]
        client.tokens([97], request=0)
        client.fail(EngineDeadError("killed"))
        assert str(await llm.wait_dead()) == "killed"
        assert (await anext(streams[0])).outputs[0].text == "a"
        for stream in streams:
            with pytest.raises(EngineDeadError, match="killed"):
                await anext(stream)
        assert llm.is_dead
        for call in (llm.check_health(), llm.add_request("a", STREAMED, "id")):
            with pytest.raises(EngineDeadError):
                await call

    with_llm(test)


def test_a_bug_in_the_output_handler_ends_all_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(llm: AsyncLLM, client: FakeCoreClient) -> None:
        stream = await llm.add_request("a", STREAMED, "id")
        client.fail(ZeroDivisionError("oops"))
        with pytest.raises(EngineDeadError, match="oops"):
            await anext(stream)
        assert llm.is_dead

    with_llm(test)


def test_statistics_reach_the_logger() -> None:
    logger = RecordingLogger()

    async def test(llm: AsyncLLM, client: FakeCoreClient) -> None:
        stream = await llm.add_request("a", STREAMED, "id")
        client.tokens([97])
        await anext(stream)
        await stream.aclose()

    with_llm(test, logger)
    (stats, iteration), (no_stats, end) = logger.records
    assert stats is not None
    assert iteration is not None
    assert iteration.num_generation_tokens == 1
    assert no_stats is None
    assert end is not None
    assert [f.finish_reason for f in end.finished] == ["abort"]


def test_a_broken_logger_costs_no_stream() -> None:
    async def test(llm: AsyncLLM, client: FakeCoreClient) -> None:
        stream = await llm.add_request("a", STREAMED, "id")
        client.tokens([97], FinishReason.LENGTH)
        assert await texts(stream) == ["a"]
        assert not llm.is_dead

    with_llm(test, RecordingLogger(fails=True))


def test_more_prompts_than_allowed_are_refused_until_one_has_ended() -> None:
    asked = engine_config()
    config = replace(asked, scheduler=replace(asked.scheduler, max_num_queued_reqs=1))

    async def test(llm: AsyncLLM, client: FakeCoreClient) -> None:
        stream = await llm.add_request("a", STREAMED, "id")
        with pytest.raises(QueueFullError, match="1 prompts are open"):
            await llm.add_request("b", STREAMED, "second")
        client.tokens([97], FinishReason.LENGTH)
        assert await texts(stream) == ["a"]
        await (await llm.add_request("b", STREAMED, "third")).aclose()

    with_llm(test, config=config)


def test_shutdown_waits_for_open_requests_and_refuses_new_ones() -> None:
    async def test(llm: AsyncLLM, client: FakeCoreClient) -> None:
        stream = await llm.add_request("a", STREAMED, "id")
        ending = asyncio.create_task(llm.shutdown(drain_timeout_s=20))
        await settle()
        with pytest.raises(OverloadedError):
            await llm.add_request("a", STREAMED, "late")
        assert not client.is_shut_down
        client.tokens([97], FinishReason.LENGTH)
        await ending
        assert await texts(stream) == ["a"]
        assert client.aborted == []

    with_llm(test)


def test_shutdown_ends_what_takes_too_long_with_a_word() -> None:
    async def test(llm: AsyncLLM, client: FakeCoreClient) -> None:
        stream = await llm.add_request("a", STREAMED, "id")
        client.tokens([97])
        await settle()
        await llm.shutdown(drain_timeout_s=0.01)
        assert (await anext(stream)).outputs[0].text == "a"
        with pytest.raises(OverloadedError, match="shutting down"):
            await anext(stream)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        assert client.aborted == [client.requests[0].request_id]

    with_llm(test)


def test_utilities() -> None:
    async def test(llm: AsyncLLM, client: FakeCoreClient) -> None:
        assert await llm.reset_prefix_cache() is True
        client.call_result = False
        assert await llm.reset_prefix_cache() is False
        assert client.calls == [("reset_prefix_cache", (False,))] * 2
        await llm.check_health()

    with_llm(test)


def test_it_is_what_the_server_asks_for() -> None:
    async def test(llm: AsyncLLM, client: FakeCoreClient) -> None:
        as_protocol: EngineClient = llm
        methods: Any = [name for name in vars(EngineClient) if not name.startswith("_")]
        assert all(hasattr(as_protocol, name) for name in methods)

    with_llm(test)


def test_a_request_on_its_way_in_can_be_aborted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(llm: AsyncLLM, client: FakeCoreClient) -> None:
        gate = asyncio.Event()
        process = llm._processor.process_async

        async def slow(*args: Any, **options: Any) -> Any:
            await gate.wait()
            return await process(*args, **options)

        monkeypatch.setattr(llm._processor, "process_async", slow)
        arriving = asyncio.create_task(llm.add_request("a", STREAMED, "id-1"))
        await settle()
        assert await llm.abort("id") == 1
        gate.set()
        outputs = [output async for output in await arriving]
        assert [output.outputs[0].finish_reason for output in outputs] == ["abort"]
        assert client.requests == []

    with_llm(test)


def test_an_id_ends_all_prompts_of_its_request() -> None:
    async def test(llm: AsyncLLM, client: FakeCoreClient) -> None:
        streams = [await llm.add_request("a", STREAMED, name) for name in ("id-0", "id-1", "other")]
        assert await llm.abort("id") == 2
        for stream in streams[:2]:
            assert [o.outputs[0].finish_reason async for o in stream] == ["abort"]
        assert len(client.aborted) == 2
        assert await llm.abort("unknown") == 0

    with_llm(test)


def test_a_caller_ends_its_own_requests_only() -> None:
    async def test(llm: AsyncLLM, client: FakeCoreClient) -> None:
        streams = [await llm.add_request("a", STREAMED, "id", ticket=Ticket(caller=c)) for c in ("me", "you")]
        assert await llm.abort("id", "me") == 1
        assert [o.outputs[0].finish_reason async for o in streams[0]] == ["abort"]
        assert not streams[1].ended
        assert await llm.abort("id", None) == 1

    with_llm(test)


def test_requests_that_would_hold_too_much_are_refused() -> None:
    async def run() -> None:
        client = FakeCoreClient()
        llm = AsyncLLM(
            engine_config(), client, engine_facts(), byte_tokenizer(), ChatTemplate(None), max_open_request_bytes=3000
        )
        used = {entry.part: entry for entry in llm.ledger}
        assert used["requests"].limit_bytes == 3000
        assert used["prefix_index"].limit_bytes > 0
        few = SamplingParams(max_tokens=50, output_kind=OutputKind.DELTA)
        streams = [await llm.add_request("a", few, "id") for _ in range(2)]
        with pytest.raises(QueueFullError, match="--max-open-request-bytes"):
            await llm.add_request("a", few, "id")
        assert len(client.requests) == 2
        await streams[0].aclose()
        client.tokens([97], FinishReason.LENGTH)
        await texts(streams[1])
        assert {entry.part: entry.used_bytes for entry in llm.ledger}["requests"] == 0
        await llm.add_request("a", few, "id")
        client.fail(EngineDeadError("gone"))
        await llm.wait_dead()
        assert {entry.part: entry.used_bytes for entry in llm.ledger}["requests"] == 0
        await llm.shutdown()

    asyncio.run(asyncio.wait_for(run(), 20))


def one_at_a_time(policy: str = "fcfs") -> EngineConfig:
    config = engine_config()
    return replace(config, scheduler=replace(config.scheduler, max_num_seqs=1, policy=policy))


def test_the_engine_hears_nothing_of_who_never_came_to_it() -> None:
    async def test(llm: AsyncLLM, client: FakeCoreClient) -> None:
        running = await llm.add_request("a", STREAMED, "running")
        waiting = await llm.add_request("b", STREAMED, "waiting")
        with pytest.raises(QueueFullError):
            await llm.add_request("c", STREAMED, "refused")
        assert llm.num_open_requests == 2
        await waiting.aclose()
        assert client.aborted == []
        await running.aclose()
        assert len(client.requests) == len(client.aborted) == 1
        await (await llm.add_request("d", STREAMED, "next")).aclose()
        assert len(client.requests) == len(client.aborted) == 2

    with_llm(test, config=one_at_a_time(), admission=AdmissionConfig(max_queued_requests=1))


@pytest.mark.parametrize("policy", ["fcfs", "priority"])
def test_priorities_count_where_the_policy_says_so(policy: str) -> None:
    async def test(llm: AsyncLLM, client: FakeCoreClient) -> None:
        running = await llm.add_request("a", STREAMED, "running")
        streams = [await llm.add_request(name, STREAMED, name, priority=-i) for i, name in enumerate("bc")]
        await running.aclose()
        assert chr(client.requests[-1].prompt_token_ids[-1]) == ("c" if policy == "priority" else "b")
        for stream in streams:
            await stream.aclose()

    with_llm(test, config=one_at_a_time(policy))


def test_a_queue_without_room_gives_no_hope() -> None:
    async def test(llm: AsyncLLM, client: FakeCoreClient) -> None:
        streams = [await llm.add_request("a", STREAMED, "running")]
        llm.check_hope(Ticket())
        streams.append(await llm.add_request("b", STREAMED, "waiting"))
        with pytest.raises(QueueFullError):
            llm.check_hope(Ticket())
        for stream in streams:
            await stream.aclose()
        llm.check_hope(Ticket())

    with_llm(test, config=one_at_a_time(), admission=AdmissionConfig(max_queued_requests=1))


def test_a_slow_grammar_is_what_its_request_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(llm: AsyncLLM, client: FakeCoreClient) -> None:
        process = llm._processor.process_async

        async def slow(*args: Any, **options: Any) -> Any:
            return replace(await process(*args, **options), grammar_wait_s=1.5)

        monkeypatch.setattr(llm._processor, "process_async", slow)
        ticket = Ticket()
        await (await llm.add_request("a", STREAMED, "id", ticket=ticket)).aclose()
        assert (ticket.position, ticket.waiting_for) == (0, "grammar")

    with_llm(test)
