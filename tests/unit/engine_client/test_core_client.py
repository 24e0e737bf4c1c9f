"""Against a real child process on the real wire, that only pretends to be an engine."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fakes.engine_config import engine_config
from kvik.engine_client import core_client
from kvik.engine_client.core_client import EngineCoreClient
from kvik.engine_client.engine_process import EngineProcess
from kvik.errors import ConfigError, EngineDeadError, EngineError, InsufficientMemoryError, ModelFileError
from kvik.messages import NewRequest, Phase, StartFailed
from kvik.sampling_params import SamplingParams
from kvik.wire.sockets import ApiSocket

FAKE_ENGINE = Path(__file__).parents[2] / "fakes" / "fake_engine.py"
REQUEST = NewRequest("r", [1], SamplingParams(), 0.0)


def spawn(behaviour: str) -> EngineCoreClient:
    socket = ApiSocket()
    return EngineCoreClient(socket, EngineProcess([sys.executable, str(FAKE_ENGINE), behaviour, socket.address]))


def with_engine(behaviour: str, test: Callable[[EngineCoreClient], Awaitable[None]]) -> None:
    async def run() -> None:
        client = spawn(behaviour)
        try:
            await asyncio.wait_for(test(client), 60)
        finally:
            await client.shutdown()
        assert is_gone(client.pid)

    asyncio.run(run())


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_start_serve_and_shut_down() -> None:
    async def test(client: EngineCoreClient) -> None:
        phases: list[Phase] = []
        ready = await client.start(engine_config(), phases.append)
        assert ready.facts.num_blocks == 4
        assert [p.name for p in phases] == ["load weights"]
        client.send(REQUEST)
        (delta,) = (await client.next_step()).deltas
        assert (delta.request_id, delta.new_token_ids) == ("r", [97])

    with_engine("serve", test)


def test_utility_calls_are_answered_while_a_task_reads_steps() -> None:
    async def test(client: EngineCoreClient) -> None:
        await client.start(engine_config())
        reading = asyncio.create_task(client.next_step())
        answers = await asyncio.gather(client.utility("echo", 1), client.utility("echo", "two", None))
        assert answers == [[1], ["two", None]]
        with pytest.raises(EngineError, match="as asked"):
            await client.utility("fail")
        client.send(REQUEST)
        assert len((await reading).deltas) == 1

    with_engine("serve", test)


def test_an_engine_that_cannot_start_says_why_with_its_own_error() -> None:
    async def test(client: EngineCoreClient) -> None:
        with pytest.raises(InsufficientMemoryError, match="needs 9 GiB, has 1"):
            await client.start(engine_config())

    with_engine("refuse", test)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ConfigError", ConfigError),
        ("NotSupportedYetError", ConfigError),
        ("ModelFileError", ModelFileError),
        ("", EngineError),
        ("KeyboardInterrupt", EngineError),
    ],
)
def test_start_errors_by_name(name: str, kind: type[Exception]) -> None:
    error = core_client._start_error(StartFailed(name, "text"))
    assert type(error) is kind
    assert str(error) == "text"


def test_an_engine_that_ends_at_once() -> None:
    async def test(client: EngineCoreClient) -> None:
        with pytest.raises(EngineDeadError, match="exit code 0"):
            await client.start(engine_config())

    with_engine("mute", test)


@pytest.mark.parametrize(("behaviour", "reason"), [("crash", "exit code 3"), ("last_word", "out of paper")])
def test_the_death_of_the_engine_is_noticed(behaviour: str, reason: str) -> None:
    async def test(client: EngineCoreClient) -> None:
        await client.start(engine_config())
        call = asyncio.ensure_future(client.utility("echo"))
        client.send(REQUEST)
        with pytest.raises(EngineDeadError, match=reason):
            await client.next_step()
        with pytest.raises(EngineDeadError, match=reason):
            client.send(REQUEST)
        await asyncio.wait((call,))
        assert isinstance(call.exception(), EngineDeadError) or call.result() == []

    with_engine(behaviour, test)


def test_a_killed_engine_is_noticed() -> None:
    async def test(client: EngineCoreClient) -> None:
        await client.start(engine_config())
        os.kill(client.pid, signal.SIGKILL)
        with pytest.raises(EngineDeadError, match="signal 9"):
            await client.next_step()

    with_engine("serve", test)


def test_an_engine_that_will_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core_client, "SHUTDOWN_TIMEOUT_S", 0.05)
    monkeypatch.setattr(core_client, "TERMINATE_TIMEOUT_S", 0.05)

    async def test(client: EngineCoreClient) -> None:
        await client.start(engine_config())

    with_engine("stubborn", test)


def test_shutdown_before_the_start_and_twice() -> None:
    async def run() -> Any:
        client = spawn("serve")
        await client.shutdown()
        await client.shutdown()
        assert is_gone(client.pid)

    asyncio.run(run())


def test_kill_without_an_event_loop() -> None:
    client = spawn("serve")
    client.kill()
    assert is_gone(client.pid)


def test_the_real_engine_is_spawned_as_a_module() -> None:
    command = core_client.engine_command("ipc:///tmp/x", "DEBUG")
    assert command == [sys.executable, "-m", "kvik.engine.process", "ipc:///tmp/x", "--log-level", "DEBUG"]
