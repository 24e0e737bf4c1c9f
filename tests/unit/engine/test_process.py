"""The engine's process from its parent's side: the start, the loop, and every way to end. The executor is a fake."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fake_executor import FakeExecutor
from tiny_config import tiny_config

from kvik.config import EngineConfig
from kvik.engine.process import run_engine
from kvik.errors import InsufficientMemoryError
from kvik.messages import (
    Abort,
    EngineFailed,
    FinishReason,
    FromEngine,
    Hello,
    NewRequest,
    Ready,
    Shutdown,
    Start,
    StartFailed,
    StartupProgress,
    StepOutputs,
    UtilityCall,
    UtilityResult,
)
from kvik.sampling_params import SamplingParams
from kvik.wire.sockets import ApiSocket, EngineSocket

FAKES = Path(__file__).parents[2] / "fakes"
TIMEOUT_S = 20


class Refusing(FakeExecutor):
    """Cannot start, for the reason given."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def start(self, phases: object) -> Any:
        raise self.error


class Breaking(FakeExecutor):
    """Starts, and breaks at the first step."""

    def execute(self, plan: object) -> Any:
        raise MemoryError("the device is gone")


@pytest.fixture
def api() -> Iterator[ApiSocket]:
    socket = ApiSocket()
    yield socket
    socket.close()


def converse(
    api: ApiSocket, talk: Callable[[], Coroutine[Any, Any, None]], make: Callable[[EngineConfig], FakeExecutor]
) -> int:
    """Run the engine on a thread while `talk` plays the parent. Returns the engine's exit code."""
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(run_engine(EngineSocket(api.address), lambda: make)))
    thread.start()
    try:
        asyncio.run(asyncio.wait_for(talk(), TIMEOUT_S))
    finally:
        thread.join(TIMEOUT_S)
    return codes[0]


async def until(api: ApiSocket, kind: type) -> Any:
    """The next message of a kind; those before it are dropped."""
    while not isinstance(message := await api.receive(), kind):
        assert not isinstance(message, StartFailed | EngineFailed), message
    return message


async def started(api: ApiSocket) -> Ready:
    await until(api, Hello)
    api.send(Start(tiny_config()))
    ready: Ready = await until(api, Ready)
    return ready


def request(request_id: str, max_tokens: int = 3) -> NewRequest:
    return NewRequest(request_id, [1, 2, 3], SamplingParams(max_tokens=max_tokens), 0.0)


def test_a_whole_life(api: ApiSocket) -> None:
    executor = FakeExecutor()

    async def talk() -> None:
        messages: list[FromEngine] = [await api.receive() for _ in range(4)]
        assert messages[0] == Hello(os.getpid())
        progress = [m.phase for m in messages if isinstance(m, StartupProgress)]
        assert [(p.name, p.end_s is None) for p in progress] == [
            ("interpreter", False), ("imports", True), ("imports", False),
        ]  # fmt: skip
        api.send(Start(tiny_config()))
        ready = await until(api, Ready)
        assert ready.facts == executor.start(None)
        assert [phase.name for phase in ready.phases] == ["interpreter", "imports", "scheduler", "settle"]
        api.send(request("a"))
        finish_reason = None
        while finish_reason is None:
            outputs: StepOutputs = await until(api, StepOutputs)
            finish_reason = outputs.deltas[0].finish_reason
        assert finish_reason is FinishReason.LENGTH
        api.send(Shutdown())

    assert converse(api, talk, lambda config: executor) == 0
    assert executor.is_shut_down


def test_requests_that_arrive_while_a_step_runs_join_the_next(api: ApiSocket) -> None:
    async def talk() -> None:
        await started(api)
        for index in range(10):
            api.send(request(str(index), max_tokens=10_000 if index == 3 else 20))  # 3 outlives the abort's journey
        api.send(Abort(["3"]))
        ended: dict[str, FinishReason] = {}
        while len(ended) < 10:
            outputs: StepOutputs = await until(api, StepOutputs)
            ended |= {d.request_id: d.finish_reason for d in outputs.deltas if d.finish_reason is not None}
        assert ended.pop("3") is FinishReason.ABORT
        assert set(ended.values()) == {FinishReason.LENGTH}
        api.send(Shutdown())

    executor = FakeExecutor(num_blocks=4_000, max_model_len=12_000)
    assert converse(api, talk, lambda config: executor) == 0


def test_utility_calls_are_answered_one_way_or_the_other(api: ApiSocket) -> None:
    async def talk() -> None:
        await started(api)
        api.send(UtilityCall(1, "get_supported_tasks"))
        api.send(UtilityCall(2, "open_door", ["now"]))
        api.send(UtilityCall(3, "check_integrity"))
        answers = [await until(api, UtilityResult) for _ in range(3)]
        assert answers[0] == UtilityResult(1, ["generate"])
        assert "no method 'open_door'; it has add_lora, check_integrity," in answers[1].failure
        assert answers[2] == UtilityResult(3, "ok")
        api.send(Shutdown())

    assert converse(api, talk, lambda config: FakeExecutor()) == 0


@pytest.mark.parametrize(
    ("error", "name", "text"),
    [
        (InsufficientMemoryError("12 GiB are needed"), "InsufficientMemoryError", "12 GiB are needed"),
        (KeyError("lm_head"), "", "KeyError: 'lm_head'"),
    ],
)
def test_a_start_that_fails_says_why(api: ApiSocket, error: Exception, name: str, text: str) -> None:
    async def talk() -> None:
        await until(api, Hello)
        api.send(Start(tiny_config()))
        while not isinstance(message := await api.receive(), StartFailed):
            assert isinstance(message, StartupProgress)
        assert message == StartFailed(name, text)

    assert converse(api, talk, lambda config: Refusing(error)) == 1


def test_a_first_message_other_than_start_is_refused(api: ApiSocket) -> None:
    async def talk() -> None:
        await until(api, Hello)
        api.send(request("early"))
        refusal = await until(api, StartFailed)
        assert refusal == StartFailed("EngineError", "the first message must be Start, got NewRequest")

    assert converse(api, talk, lambda config: FakeExecutor()) == 1


def test_shutdown_instead_of_start(api: ApiSocket) -> None:
    async def talk() -> None:
        await until(api, Hello)
        api.send(Shutdown())

    assert converse(api, talk, lambda config: FakeExecutor()) == 0


def test_a_broken_executor_is_the_end_and_says_so(api: ApiSocket) -> None:
    executor = Breaking()

    async def talk() -> None:
        await started(api)
        api.send(request("a"))
        assert await api.receive() == EngineFailed("MemoryError: the device is gone")

    assert converse(api, talk, lambda config: executor) == 1
    assert executor.is_shut_down


# --- a real process ---------------------------------------------------------------------------------

ENGINE_PROGRAM = f"""
import sys
sys.path.insert(0, {str(FAKES)!r})
from kvik.engine import process
from fake_executor import FakeExecutor
process._import_executor = lambda: lambda config: FakeExecutor()
sys.exit(process.main(sys.argv[1:]))
"""
PARENT_PROGRAM = """
import subprocess, sys
subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2]])
sys.stdin.read()
"""


@contextmanager
def spawn(*arguments: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A failing test does not wait for a process that will not end."""
    with subprocess.Popen([sys.executable, "-c", *arguments], stderr=subprocess.PIPE, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def test_signals_and_shutdown_of_a_real_process(api: ApiSocket) -> None:
    async def talk() -> None:
        await started(api)
        process.send_signal(signal.SIGINT)  # a Ctrl+C in the terminal reaches both; the parent decides
        api.send(UtilityCall(1, "describe"))
        assert (await until(api, UtilityResult)).failure is None
        process.send_signal(signal.SIGTERM)
        while not isinstance(message := await api.receive(), EngineFailed):
            pass
        assert message.message == "the engine process was terminated"

    with spawn(ENGINE_PROGRAM, api.address) as process:
        asyncio.run(asyncio.wait_for(talk(), TIMEOUT_S))
        assert process.wait(TIMEOUT_S) == 128 + signal.SIGTERM


def test_an_orphan_ends_itself(api: ApiSocket) -> None:
    async def talk() -> int:
        hello: Hello = await api.receive()  # type: ignore[assignment]
        return hello.pid

    with spawn(PARENT_PROGRAM, ENGINE_PROGRAM, api.address, stdin=subprocess.PIPE) as parent:
        engine_pid = asyncio.run(asyncio.wait_for(talk(), TIMEOUT_S))
        engine = os.pidfd_open(engine_pid)
        assert select.select([engine], [], [], 0) == ([], [], [])
        assert parent.stdin is not None
        parent.stdin.close()
        assert select.select([engine], [], [], TIMEOUT_S)[0] == [engine]
        os.close(engine)


def test_a_wrong_command_line_is_explained() -> None:
    with spawn(ENGINE_PROGRAM) as process:
        assert process.wait(TIMEOUT_S) == 2
        assert process.stderr is not None
        assert b"address" in process.stderr.read()
