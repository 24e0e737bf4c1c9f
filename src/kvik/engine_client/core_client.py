"""The API process's end of the wall: starts the engine process, speaks its messages, notices its death.

Knows messages and one child process; knows no text and no requests' state.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from typing import Any, Protocol, Self

from kvik import errors
from kvik.config import EngineConfig
from kvik.engine_client.engine_process import EngineProcess, describe_exit, engine_command
from kvik.errors import ConfigError, EngineDeadError, EngineError, KvikError
from kvik.messages import (
    EngineFailed,
    FromEngine,
    Hello,
    Phase,
    Ready,
    Shutdown,
    Start,
    StartFailed,
    StartupProgress,
    StepOutputs,
    ToEngine,
    UtilityCall,
    UtilityResult,
)
from kvik.telemetry.log import get_logger
from kvik.wire.pulse import STACKS_SIGNAL, PulseReading
from kvik.wire.sockets import ApiSocket

logger = get_logger(__name__)

HELLO_TIMEOUT_S = 300.0
"""From the start of the process to its first word: imports from a cold disk."""
LAST_WORDS_S = 0.1
"""How long to listen for what a process said just before it ended."""
SHUTDOWN_TIMEOUT_S = 5.0
TERMINATE_TIMEOUT_S = 2.0


class AsyncCoreClient(Protocol):
    """What `AsyncLLM` needs of an engine; `EngineSupervisor` is the real one."""

    @property
    def pulse(self) -> PulseReading:
        """What the engine is doing, or was doing when it died."""

    async def start(self, config: EngineConfig, on_phase: Callable[[Phase], None]) -> Ready: ...

    def send(self, message: ToEngine) -> None: ...

    async def next_step(self) -> StepOutputs: ...

    async def utility(self, method: str, *args: Any) -> Any: ...

    async def restart(self, reason: str) -> None:
        """After `next_step` has raised: have an engine again, that knows of no request. Raises `EngineDeadError`."""

    async def shutdown(self) -> None: ...


class EngineCoreClient:
    """One engine process. `spawn` first, as early as possible; then, in an event loop, `start`.

    After `start`, exactly one task reads `next_step` in a loop: it also serves the answers of utility calls.
    """

    def __init__(self, socket: ApiSocket, process: EngineProcess) -> None:
        self._socket = socket
        self._process = process
        self._exited: asyncio.Future[int] | None = None
        self._call_ids = itertools.count(1)
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._death: EngineDeadError | None = None
        self._is_ready = False
        self._last_pulse: PulseReading | None = None
        """Once the page is gone."""
        self._killed_for: str | None = None

    @classmethod
    def spawn(cls, log_level: str = "INFO") -> Self:
        """Start the engine process now. It imports what is slow, then waits for its configuration.

        Needs no event loop, so that it can run before the API process's own imports.
        """
        socket = ApiSocket()
        return cls(socket, EngineProcess(engine_command(socket.address, log_level)))

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def pulse(self) -> PulseReading:
        """What the engine is doing, or was doing when it died."""
        return self._last_pulse or self._socket.pulse.read()

    async def start(self, config: EngineConfig, on_phase: Callable[[Phase], None] = lambda phase: None) -> Ready:
        """Tell the engine what to be, and wait until it can serve. `on_phase` hears of each phase as it ends.

        Raises what the engine raised (`ModelFileError`, `InsufficientMemoryError`, ...), or `EngineDeadError`.
        """
        self._exited = self._process.watch()
        self._exited.add_done_callback(self._hang_up_soon)
        try:
            await asyncio.wait_for(self._expect_hello(), HELLO_TIMEOUT_S)
        except TimeoutError:
            raise EngineDeadError(f"the engine process said nothing for {HELLO_TIMEOUT_S:.0f} seconds") from None
        self.send(Start(config))
        while not isinstance(message := await self._recv(), Ready):
            if isinstance(message, StartupProgress):
                on_phase(message.phase)
            elif isinstance(message, StartFailed):
                raise _start_error(message)
        self._is_ready = True
        return message

    def send(self, message: ToEngine) -> None:
        """Queue a message for the engine; never waits. Raises `EngineDeadError` once the engine is gone."""
        if self._death is not None:
            raise self._death
        self._socket.send(message)

    async def next_step(self) -> StepOutputs:
        """The outputs of the engine's next step. Raises `EngineDeadError` when there will be none."""
        while not isinstance(message := await self._recv(), StepOutputs):
            if isinstance(message, UtilityResult):
                self._finish_call(message)
        return message

    async def utility(self, method: str, *args: Any) -> Any:
        """Call a method of the engine. Raises `EngineCallError` (foreseen) or `EngineError` with its failure, or
        `EngineDeadError`."""
        call_id = next(self._call_ids)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.send(UtilityCall(call_id, method, list(args)))
        self._calls[call_id] = answer
        try:
            return await answer
        finally:
            self._calls.pop(call_id, None)

    async def shutdown(self) -> None:
        """End the engine process: ask, then terminate, then kill. Harmless when it has ended already."""
        if self._exited is None:
            self._process.kill_and_wait()
        elif not self._exited.done():
            await self._end_process(self._exited)
        self._die("the engine has been shut down")
        self._close_socket()

    def dump_stacks(self) -> None:
        """Have the engine write the stacks of its threads to its log."""
        self._process.signal(STACKS_SIGNAL)

    def kill_engine(self, reason: str) -> None:
        """End the process at once; `next_step` raises with `reason`."""
        self._killed_for = reason
        self._process.kill()

    def kill(self) -> None:
        """`shutdown` without an event loop, for a start that fails before there is one."""
        self._process.kill_and_wait()
        self._close_socket()

    def _close_socket(self) -> None:
        self._last_pulse = self.pulse
        self._socket.close()

    async def _end_process(self, exited: asyncio.Future[int]) -> None:
        """Ask first, if it is in its loop and can hear; then insist."""
        if self._is_ready and self._death is None:
            with contextlib.suppress(EngineDeadError):
                self._socket.send(Shutdown())
            if await _ends_within(exited, SHUTDOWN_TIMEOUT_S):
                return
            logger.warning("engine process %d has not ended in %.0f s", self._process.pid, SHUTDOWN_TIMEOUT_S)
        self._process.terminate()
        if not await _ends_within(exited, TERMINATE_TIMEOUT_S):
            self._process.kill()
            await exited

    async def _expect_hello(self) -> None:
        while not isinstance(await self._recv(), Hello):
            pass

    async def _recv(self) -> FromEngine:
        """The next message. `EngineFailed` and the end of the process are raised as `EngineDeadError`."""
        assert self._exited is not None, "start() comes first"
        message = await self._socket.receive()
        if message is None:
            raise self._die(self._killed_for or f"the engine process {describe_exit(self._exited.result())}")
        if isinstance(message, EngineFailed):
            raise self._die(message.message)
        return message

    def _hang_up_soon(self, exited: asyncio.Future[int]) -> None:
        """The process has ended; what it said just before may still be on its way."""
        exited.get_loop().call_later(LAST_WORDS_S, self._socket.hang_up)

    def _die(self, reason: str) -> EngineDeadError:
        """Nothing can be asked any more: fail all open calls. Returns what there is to raise."""
        if self._death is None:
            self._death = EngineDeadError(reason)
        for answer in self._calls.values():
            if not answer.done():
                answer.set_exception(self._death)
        return self._death

    def _finish_call(self, message: UtilityResult) -> None:
        answer = self._calls.get(message.call_id)
        if answer is None or answer.done():
            return
        if message.failure is not None:
            kind = errors.EngineCallError if message.is_foreseen else EngineError
            answer.set_exception(kind(message.failure))
        else:
            answer.set_result(message.result)


async def _ends_within(exited: asyncio.Future[int], timeout_s: float) -> bool:
    await asyncio.wait((exited,), timeout=timeout_s)
    return exited.done()


def _start_error(failed: StartFailed) -> KvikError:
    """The engine's error as the class it had there; `EngineError` for what was not foreseen."""
    if failed.error == errors.NotSupportedYetError.__name__:
        return ConfigError(failed.message)
    for kind in (ConfigError, errors.UnsupportedArchitectureError, errors.ModelFileError):
        if failed.error == kind.__name__:
            return kind(failed.message)
    if failed.error == errors.InsufficientMemoryError.__name__:
        return errors.InsufficientMemoryError(failed.message)
    return EngineError(failed.message)
