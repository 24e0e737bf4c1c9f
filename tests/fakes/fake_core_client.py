"""An engine that does what a test tells it: it keeps what it is sent and says what it is given to say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from fakes.engine_config import engine_facts
from kvik.config import EngineConfig
from kvik.errors import EngineDeadError
from kvik.messages import (
    Abort,
    FinishReason,
    NewRequest,
    Phase,
    Ready,
    SchedulerStats,
    StepOutputs,
    ToEngine,
    TokenDelta,
)
from kvik.wire.pulse import PulseReading, Stage


class FakeCoreClient:
    """`answer`s are queued; a queued exception is raised by `next_step`."""

    def __init__(self) -> None:
        self.sent: list[ToEngine] = []
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.call_result: Any = True
        self.send_error: Exception | None = None
        self.is_shut_down = False
        self.num_restarts_left = 0
        self.pulse = PulseReading(0, 0, Stage.BETWEEN_STEPS, None)
        self._steps: asyncio.Queue[StepOutputs | Exception] = asyncio.Queue()

    @property
    def requests(self) -> list[NewRequest]:
        return [m for m in self.sent if isinstance(m, NewRequest)]

    @property
    def aborted(self) -> list[str]:
        return [i for m in self.sent if isinstance(m, Abort) for i in m.request_ids]

    def step(self, *deltas: TokenDelta) -> None:
        self._steps.put_nowait(StepOutputs(list(deltas), 1.0, SchedulerStats()))

    def tokens(self, ids: list[int], finish: FinishReason | None = None, *, request: int = -1, **more: Any) -> None:
        """A step that brings tokens to one request, the newest if not said otherwise."""
        self.step(TokenDelta(self.requests[request].request_id, ids, finish_reason=finish, **more))

    def fail(self, error: Exception) -> None:
        self._steps.put_nowait(error)

    async def start(self, config: EngineConfig, on_phase: Callable[[Phase], None]) -> Ready:
        on_phase(Phase("load weights", "EngineCore", 1.0, 2.0))
        return Ready(engine_facts(), [])

    def send(self, message: ToEngine) -> None:
        if self.send_error is not None:
            raise self.send_error
        self.sent.append(message)

    async def next_step(self) -> StepOutputs:
        step = await self._steps.get()
        if isinstance(step, Exception):
            raise step
        return step

    async def utility(self, method: str, *args: Any) -> Any:
        self.calls.append((method, args))
        return self.call_result

    async def restart(self, reason: str) -> None:
        if not self.num_restarts_left:
            raise EngineDeadError(reason)
        self.num_restarts_left -= 1
        self.sent.clear()

    async def shutdown(self) -> None:
        self.is_shut_down = True
