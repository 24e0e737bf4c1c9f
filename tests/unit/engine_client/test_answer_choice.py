"""Streams that choose: whatever moment their reader leaves, nothing of them stays open in the engine."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.tiny_config import tiny_config
from kvik.engine_client.answer_choice import AnswerChoice, BestOf, ChoosingClient
from kvik.engine_client.stream import close_all
from kvik.errors import EngineRequestError, QueueFullError
from kvik.sampling_params import BeamSearchParams, SamplingParams
from kvik.server.generation import EngineCall, Generation
from kvik.telemetry.request_times import RequestTimes
from kvik.text.outputs import CompletionOutput, Logprob, RequestOutput
from kvik.text.processor import DEFAULT_PROMPT_OPTIONS

PROMPT = [1, 2]
BEAMS = BeamSearchParams(beam_width=3, max_tokens=3, ignore_eos=True)


async def turns(count: int) -> None:
    """Let the event loop run all that is ready, `count` times."""
    for _ in range(count):
        await asyncio.sleep(0)


class CountingClient:
    """An engine client of one-token requests that remembers which are open.

    Each of its three waits lasts some turns of the event loop. As the real one, `add_request` opens at its very end.
    """

    def __init__(self, *, opening: int = 1, answering: int = 1, closing: int = 1) -> None:
        self.config = tiny_config()
        self.facts = SimpleNamespace(max_model_len=64)
        self.tokenizer = None
        self.opening, self.answering, self.closing = opening, answering, closing
        self.open: set[str] = set()
        self.num_added = 0
        self.most: int | None = None
        """Requests that are taken; the next one is refused."""
        self.failing: str | None = None
        """The id of a request that the engine cannot finish."""

    async def add_request(self, prompt: Any, params: SamplingParams, request_id: str, **options: Any) -> CountedStream:
        await turns(self.opening)
        if self.num_added == self.most:
            raise QueueFullError("full")
        self.num_added += 1
        self.open.add(request_id)
        return CountedStream(self, request_id, list(prompt), params)


class CountedStream:
    def __init__(self, client: CountingClient, request_id: str, prompt: list[int], params: SamplingParams) -> None:
        self._client, self._id, self._prompt, self._params = client, request_id, prompt, params
        self.times = [RequestTimes(1.0, num_prompt_tokens=len(prompt))]

    def __aiter__(self) -> CountedStream:
        return self

    async def __anext__(self) -> RequestOutput:
        if self._id not in self._client.open:
            raise StopAsyncIteration
        await turns(self._client.answering)
        if self._id == self._client.failing:
            raise EngineRequestError("failed on purpose")
        self._client.open.discard(self._id)
        values = [math.log((1 + i) / 100) for i in range(self._params.logprobs or 1)]
        position = {10 + i: Logprob(value, 1 + i, "") for i, value in enumerate(values)}
        answers = [
            CompletionOutput(i, "", [10], [position], values[0] - i, finish_reason="length")
            for i in range(self._params.n)
        ]
        return RequestOutput(self._id, None, self._prompt, answers, True)

    async def aclose(self) -> None:
        self._client.open.discard(self._id)
        await turns(self._client.closing)


async def read(client: CountingClient, choice: AnswerChoice, num_prompts: int = 1) -> list[RequestOutput]:
    """What a route does: open, read all, and close whatever happened."""
    call = EngineCall(
        prompts=[PROMPT] * num_prompts, params=SamplingParams(n=2), request_id="r", options=DEFAULT_PROMPT_OPTIONS,
        choice=choice,
    )  # fmt: skip
    generation = await Generation.start(cast("Any", client), call)
    try:
        return await generation.collect()
    finally:
        await generation.close()


async def leave_after(
    client: CountingClient, num_turns: int, again: list[int], choice: AnswerChoice, num_prompts: int = 2
) -> bool:
    """Cancel a reader after some turns, and perhaps again while it cleans up; whether it had ended before."""
    task = asyncio.create_task(read(client, choice, num_prompts))
    await turns(num_turns)
    had_ended = task.done()
    task.cancel()
    for gap in again:
        await turns(gap)
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return had_ended


WAITS = st.integers(0, 3)


@settings(max_examples=300, deadline=None)
@given(
    waits=st.tuples(WAITS, WAITS, WAITS),
    num_turns=st.integers(0, 60),
    again=st.lists(st.integers(0, 8), max_size=3),
    choice=st.sampled_from([BEAMS, BestOf(4)]),
    num_prompts=st.integers(1, 3),
)
def test_whatever_moment_the_client_leaves_nothing_stays_open(
    waits: tuple[int, int, int], num_turns: int, again: list[int], choice: AnswerChoice, num_prompts: int
) -> None:
    async def leave() -> None:
        client = CountingClient(opening=waits[0], answering=waits[1], closing=waits[2])
        await leave_after(client, num_turns, again, choice, num_prompts)
        await turns(2)  # not until each close has returned: until each has begun
        assert client.open == set()

    asyncio.run(leave())


def test_moments_before_during_and_after_are_among_these() -> None:
    async def ends() -> list[bool]:
        return [await leave_after(CountingClient(), n, [], BEAMS) for n in range(60)]

    ended = asyncio.run(ends())
    assert ended == sorted(ended)
    assert set(ended) == {True, False}


def test_a_refusal_in_the_middle_of_a_step_closes_those_before_it() -> None:
    async def refused(most: int) -> None:
        client = CountingClient()
        client.most = most
        with pytest.raises(QueueFullError):
            await read(client, BEAMS)
        assert client.num_added == most
        assert client.open == set()

    for most in range(1 + 3 + 3):  # the prompt, then three beams a step
        asyncio.run(refused(most))


@pytest.mark.parametrize("failing", ["r-0-beam0-0", "r-0-beam1-0", "r-0-beam1-2"])
def test_a_beam_that_fails_ends_the_others(failing: str) -> None:
    async def fail() -> None:
        client = CountingClient()
        client.failing = failing
        with pytest.raises(EngineRequestError):
            await read(client, BEAMS, 2)
        assert client.open == set()

    asyncio.run(fail())


def test_closed_by_another_task_while_a_step_is_sent() -> None:
    async def close_after(num_turns: int) -> None:
        client = CountingClient(opening=2)
        stream = await ChoosingClient(cast("Any", client), BEAMS).add_request(PROMPT, SamplingParams(), "r")
        reading = asyncio.create_task(anext(stream, None))  # type: ignore[arg-type]
        await turns(num_turns)
        await stream.aclose()
        with contextlib.suppress(EngineRequestError):  # where it waited for an answer that will not come
            await reading
        assert client.open == set()

    for num_turns in range(20):
        asyncio.run(close_after(num_turns))


class Closing:
    """Closes after some turns, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.is_closed = error, False

    async def aclose(self) -> None:
        await turns(1)
        if self.error is not None:
            raise self.error
        self.is_closed = True


def test_one_that_cannot_be_closed_keeps_none_of_the_others_open() -> None:
    async def close(make: Callable[[], list[Closing]]) -> None:
        streams = make()
        with pytest.raises(OSError, match="first"):
            await close_all(cast("Any", streams))
        assert all(stream.is_closed for stream in streams if stream.error is None)

    asyncio.run(close(lambda: [Closing(OSError("first")), Closing(), Closing(OSError("second")), Closing()]))
