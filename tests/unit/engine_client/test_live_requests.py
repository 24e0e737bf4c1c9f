"""What is told of open requests, from all who know something of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from fakes.byte_tokenizer import byte_tokenizer
from fakes.engine_config import engine_config, engine_facts
from fakes.fake_core_client import FakeCoreClient
from kvik.config import SchedulerConfig
from kvik.engine_client import live_requests
from kvik.engine_client.admission.ticket import Ticket
from kvik.engine_client.async_llm import AsyncLLM
from kvik.engine_client.live_requests import LiveRequest
from kvik.errors import EngineDeadError, EngineError
from kvik.sampling_params import OutputKind, SamplingParams
from kvik.text.chat_template import ChatTemplate

STREAMED = SamplingParams(output_kind=OutputKind.DELTA)


class TellingClient(FakeCoreClient):
    """An engine that says what it holds; `failure` is raised instead, `is_busy`: it says nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.running: list[str] = []
        self.waiting: list[tuple[str, str | None]] = []
        self.failure: Exception | None = None
        self.is_busy = False

    async def utility(self, method: str, *args: Any) -> Any:
        if method != "describe":
            return await super().utility(method, *args)
        if self.failure is not None:
            raise self.failure
        if self.is_busy:
            await asyncio.Event().wait()
        return {
            "running": [told(request_id, None, num_blocks=3) for request_id in self.running],
            "waiting": [told(request_id, reason) for request_id, reason in self.waiting],
        }


def told(request_id: str, waiting_for: str | None, num_blocks: int = 0) -> dict[str, Any]:
    """As `scheduler/report.py` does."""
    return {
        "request_id": request_id, "waiting_for": waiting_for, "num_blocks": num_blocks, "num_cached_tokens": 2,
        "num_preemptions": 1,
    }  # fmt: skip


def with_llm(test: Callable[[AsyncLLM, TellingClient], Awaitable[None]], **scheduler: Any) -> None:
    async def run() -> None:
        client = TellingClient()
        config = replace(engine_config(), scheduler=SchedulerConfig(**scheduler))
        llm = AsyncLLM(config, client, engine_facts(), byte_tokenizer(), ChatTemplate(None))
        try:
            await asyncio.wait_for(test(llm, client), 20)
        finally:
            await llm.shutdown()

    asyncio.run(run())


async def live(llm: AsyncLLM) -> dict[str, LiveRequest]:
    return {one.request_id: one for one in (await llm.describe_requests()).requests}


def test_each_request_is_where_it_is() -> None:
    async def test(llm: AsyncLLM, client: TellingClient) -> None:
        streams = [await llm.add_request("abc", STREAMED, name) for name in ("runs", "reads", "waits")]
        runs, reads, waits = (request.request_id for request in client.requests)
        client.running, client.waiting = [runs, reads], [(waits, "blocks")]
        client.tokens([97], request=0)
        await anext(aiter(streams[0]))
        found = await live(llm)
        assert [found[name].state for name in ("runs", "reads", "waits")] == ["decode", "prefill", "waiting"]
        assert (found["waits"].waiting_for, found["waits"].position, found["waits"].num_blocks) == ("blocks", 0, 0)
        runner = found["runs"]
        assert (runner.num_output_tokens, runner.num_blocks, runner.num_prompt_tokens) == (1, 3, 3)
        assert (runner.num_cached_tokens, runner.num_preemptions, runner.position) == (2, 1, None)
        assert 0 <= runner.age_s < 20

    with_llm(test)


def test_who_waits_for_the_engine_comes_after_who_waits_in_it() -> None:
    async def test(llm: AsyncLLM, client: TellingClient) -> None:
        ticket = Ticket(owner="a", caller="team-a")
        for name in ("inside", "first", "second"):
            await llm.add_request("abc", STREAMED, name, ticket=ticket)
        (inside,) = (request.request_id for request in client.requests)
        client.waiting = [(inside, "slots")]
        found = await live(llm)
        assert [found[name].position for name in ("inside", "first", "second")] == [0, 1, 2]
        assert [found[name].waiting_for for name in ("first", "second")] == ["slots", "slots"]
        assert {one.state for one in found.values()} == {"waiting"}
        assert {one.caller for one in found.values()} == {"team-a"}

    with_llm(test, max_num_seqs=1)


@pytest.mark.parametrize("failure", [None, EngineError("no"), EngineDeadError("gone")])
def test_an_engine_that_does_not_answer_costs_its_part_only(
    failure: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_requests, "ENGINE_ANSWERS_WITHIN_S", 0.01)

    async def test(llm: AsyncLLM, client: TellingClient) -> None:
        stream = await llm.add_request("abc", STREAMED, "one")
        client.tokens([97])
        await anext(aiter(stream))
        client.failure, client.is_busy = failure, failure is None
        report = await llm.describe_requests()
        assert report.engine == ("dead" if isinstance(failure, EngineDeadError) else "busy")
        assert [(one.state, one.num_blocks) for one in report.requests] == [("decode", None)]

    with_llm(test)


def test_each_answer_of_several_is_told_of() -> None:
    async def test(llm: AsyncLLM, client: TellingClient) -> None:
        await llm.add_request("abc", SamplingParams(n=2, temperature=1.0, output_kind=OutputKind.DELTA), "two")
        report = await llm.describe_requests()
        assert [(one.request_id, one.index) for one in report.requests] == [("two", 0), ("two", 1)]

    with_llm(test)


def test_while_the_engine_rests_all_are_paused() -> None:
    async def test(llm: AsyncLLM, client: TellingClient) -> None:
        await llm.control.pause("keep")
        await llm.add_request("abc", STREAMED, "one")
        assert (await live(llm))["one"].state == "paused"
        await llm.control.resume()
        assert (await live(llm))["one"].state == "waiting"

    with_llm(test)


def test_who_has_ended_is_not_there() -> None:
    async def test(llm: AsyncLLM, client: TellingClient) -> None:
        await llm.add_request("abc", STREAMED, "one")
        await llm.abort("one")
        assert await live(llm) == {}

    with_llm(test)
