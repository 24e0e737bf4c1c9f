from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from kvik.engine_client.open_streams import OpenStreams
from kvik.engine_client.stream import RequestStream
from kvik.telemetry.ledger import Account, Ledger
from kvik.text.outputs import CompletionOutput, RequestOutput


class World:
    def __init__(self) -> None:
        self.memory: Account = Ledger().account("requests", 100, "--limit")
        self.gone: list[str] = []
        self.streams = OpenStreams(self.memory, self.gone.append)

    def open(self, name: str, num_bytes: int = 10) -> RequestStream:
        self.memory.take(num_bytes)
        stream = RequestStream(lambda: None, True, num_bytes, caller=f"caller of {name}")
        self.streams.add(name, stream)
        return stream


def run(test: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        await asyncio.wait_for(test(World()), 10)

    asyncio.run(main())


def output(text: str, *, finished: bool) -> RequestOutput:
    answer = CompletionOutput(index=0, text=text, token_ids=[1], finish_reason="stop" if finished else None)
    return RequestOutput("r", prompt=None, prompt_token_ids=[1], outputs=[answer], finished=finished)


def test_the_last_output_ends_it() -> None:
    async def test(world: World) -> None:
        stream = world.open("a")
        world.streams.put("a", output("one", finished=False))
        assert (len(world.streams), world.gone, world.memory.used_bytes) == (1, [], 10)
        world.streams.put("a", output(" two", finished=True))
        world.streams.put("a", output("late", finished=True))
        assert (len(world.streams), world.gone, world.memory.used_bytes) == (0, ["a"], 0)
        assert [o.outputs[0].text async for o in stream] == ["one two"]

    run(test)


def test_an_error_reaches_its_reader_alone() -> None:
    async def test(world: World) -> None:
        broken, sound = world.open("broken"), world.open("sound")
        world.streams.put("broken", ValueError("of this one"))
        with pytest.raises(ValueError, match="of this one"):
            await anext(broken)
        assert not sound.ended
        assert world.gone == ["broken"]
        assert world.streams.caller_of("sound") == "caller of sound"
        assert world.streams.caller_of("broken") is None

    run(test)


def test_who_fails_is_open_until_forgotten() -> None:
    async def test(world: World) -> None:
        world.open("a")
        assert world.streams.fail("a", ValueError("late"))
        assert not world.streams.fail("b", ValueError("late"))
        assert len(world.streams) == 1
        world.streams.forget("a")
        world.streams.forget("a")
        assert (len(world.streams), world.memory.used_bytes) == (0, 0)

    run(test)


def test_all_end_at_once_and_whoever_waited_for_that_goes_on() -> None:
    async def test(world: World) -> None:
        await world.streams.wait_for_none()
        streams = [world.open(name) for name in "abc"]
        waiting = asyncio.create_task(world.streams.wait_for_none())
        world.streams.fail_all(lambda: OSError("gone"))
        await asyncio.sleep(0)
        assert not waiting.done()
        world.streams.forget_all()
        await waiting
        assert (world.gone, world.memory.used_bytes) == (["a", "b", "c"], 0)
        for stream in streams:
            with pytest.raises(OSError, match="gone"):
                await anext(stream)

    run(test)
