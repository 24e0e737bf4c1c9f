from __future__ import annotations

import asyncio

import pytest

from kvik.engine_client.stream import MAX_UNREAD_VALUES, RequestStream, merge_outputs
from kvik.errors import SlowReaderError
from kvik.text.outputs import CompletionOutput, Logprob, RequestOutput


def output(text: str, *, index: int = 0, finished: bool = False, logprobs: bool = False) -> RequestOutput:
    ids = [ord(c) for c in text]
    positions = [{i: Logprob(-1.0, 1, chr(i))} for i in ids] if logprobs else None
    answer = CompletionOutput(index, text, ids, positions, finish_reason="stop" if finished else None)
    return RequestOutput("id", "p", [1], [answer], finished)


def never() -> None:
    raise AssertionError("the request must not be cancelled")


async def read_all(stream: RequestStream) -> list[str]:
    return [o.outputs[0].text async for o in stream]


def test_outputs_come_in_order_and_end() -> None:
    async def run() -> list[str]:
        stream = RequestStream(never, deltas=True)
        reading = asyncio.create_task(read_all(stream))
        for text in "ab":
            await asyncio.sleep(0)
            stream.put(output(text))
            await asyncio.sleep(0)
        stream.put(output("c", finished=True))
        texts = await reading
        await stream.aclose()
        return texts

    assert asyncio.run(run()) == ["a", "b", "c"]


def test_what_is_unread_is_merged() -> None:
    async def run(deltas: bool) -> list[RequestOutput]:
        stream = RequestStream(never, deltas)
        stream.put(output("a", logprobs=True))
        stream.put(output("x", index=1))
        stream.put(output("b", logprobs=True, finished=True))
        return [o async for o in stream]

    for deltas, text in ((True, "ab"), (False, "b")):
        (merged,) = asyncio.run(run(deltas))
        assert [(a.index, a.text, len(a.token_ids)) for a in merged.outputs] == [(0, text, len(text)), (1, "x", 1)]
        assert merged.outputs[0].logprobs is not None
        assert len(merged.outputs[0].logprobs) == len(text)
        assert merged.outputs[0].finish_reason == "stop"
        assert merged.finished


def test_prompt_logprobs_survive_a_merge() -> None:
    older = output("a")
    older.prompt_logprobs = [None]
    assert merge_outputs(older, output("b"), deltas=True).prompt_logprobs == [None]


def test_an_error_comes_after_what_is_unread_and_only_once() -> None:
    async def run() -> None:
        stream = RequestStream(never, deltas=True)
        stream.put(output("a"))
        stream.fail(ValueError("broken"))
        assert (await anext(stream)).outputs[0].text == "a"
        with pytest.raises(ValueError, match="broken"):
            await anext(stream)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)

    asyncio.run(run())


def test_leaving_early_cancels_once_and_leaving_late_does_not() -> None:
    async def run() -> int:
        cancelled: list[int] = []
        stream = RequestStream(lambda: cancelled.append(1), deltas=True)
        stream.put(output("a"))
        await stream.aclose()
        await stream.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        return len(cancelled)

    assert asyncio.run(run()) == 1


def test_an_answer_that_nobody_reads_ends_at_its_bound() -> None:
    async def run() -> tuple[int, int]:
        cancelled: list[int] = []
        stream = RequestStream(lambda: cancelled.append(num_put), deltas=True)
        num_put = 0
        while not stream.ended:
            num_put += 1000
            stream.put(output("a" * 1000, logprobs=True))
        assert cancelled == [num_put]
        unread = await anext(stream)
        with pytest.raises(SlowReaderError):
            await anext(stream)
        return num_put, len(unread.outputs[0].token_ids)

    num_put, num_read = asyncio.run(run())
    assert num_put == num_read
    assert 2 * (num_put - 2000) <= MAX_UNREAD_VALUES < 2 * num_put


def test_an_answer_that_is_read_now_and_then_has_no_bound() -> None:
    async def run() -> None:
        stream = RequestStream(never, deltas=True)
        for _ in range(3):
            for _ in range(MAX_UNREAD_VALUES // 2000):
                stream.put(output("a" * 1000))
            await anext(stream)
        whole = RequestStream(never, deltas=False)
        for _ in range(3):
            whole.put(output("a" * MAX_UNREAD_VALUES))

    asyncio.run(run())
