"""The engine, whichever process it is in: one process after another, started again when it dies.

Knows processes and how many of them there may be; knows no request: who reads the steps hears of a death, asks for a
`restart` and says again what the dead one was told.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from kvik.config import EngineConfig
from kvik.config.recovery import RecoveryConfig
from kvik.engine_client.core_client import EngineCoreClient
from kvik.errors import EngineDeadError, KvikError
from kvik.messages import Phase, Ready, StepOutputs, ToEngine, UtilityCall
from kvik.telemetry.log import get_logger
from kvik.wire.pulse import PulseReading

logger = get_logger(__name__)

RESTART_WINDOW_S = 600.0


class EngineSupervisor:
    """What `AsyncLLM` knows as its core client. `start` comes first, once."""

    def __init__(
        self,
        first: EngineCoreClient,
        config: RecoveryConfig,
        spawn: Callable[[], EngineCoreClient] = EngineCoreClient.spawn,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = first
        self._config = config
        self._spawn = spawn
        self._clock = clock
        self._restarts: deque[float] = deque()
        """When there were some, in the last `RESTART_WINDOW_S`."""
        self._asked: EngineConfig | None = None
        self._is_ending = False
        self._on_phase: Callable[[Phase], None] = lambda phase: None

    @property
    def pid(self) -> int:
        return self._client.pid

    @property
    def pulse(self) -> PulseReading:
        """Of the engine that runs, or of the one that has just died."""
        return self._client.pulse

    async def start(self, config: EngineConfig, on_phase: Callable[[Phase], None] = lambda phase: None) -> Ready:
        """Raises what the engine's start raises: there is no second attempt where there was no first engine.

        `on_phase` hears of the starts of all engines that come after it, too.
        """
        self._on_phase = on_phase
        ready = await self._client.start(config, on_phase)
        # What the first engine measured holds for all: requests were accepted by it.
        cache = replace(config.cache, num_blocks_override=ready.facts.num_blocks, kv_cache_memory_bytes=None)
        model = replace(config.model, max_model_len=ready.facts.max_model_len)
        self._asked = replace(config, cache=cache, model=model, load=replace(config.load, use_tqdm_on_load=False))
        return ready

    def send(self, message: ToEngine) -> None:
        """As the engine's own client. A dead one is not told: what it should know, the next one is told."""
        try:
            self._client.send(message)
        except EngineDeadError:
            if isinstance(message, UtilityCall) or not self.may_restart:
                raise

    async def next_step(self) -> StepOutputs:
        return await self._client.next_step()

    async def utility(self, method: str, *args: Any) -> Any:
        return await self._client.utility(method, *args)

    @property
    def may_restart(self) -> bool:
        """Whether a death now would not be the last one."""
        self._forget_old_restarts()
        return not self._is_ending and len(self._restarts) < self._config.max_engine_restarts

    async def restart(self, reason: str) -> None:
        """Have an engine again. Raises `EngineDeadError` when there were too many; the log says what failed before."""
        await self._client.shutdown()
        while self.may_restart:
            self._restarts.append(self._clock())
            logger.warning(
                "restarting the engine, which died: %s (restart %d of at most %d in %.0f minutes)",
                reason, len(self._restarts), self._config.max_engine_restarts, RESTART_WINDOW_S / 60,
            )  # fmt: skip
            try:
                await self._replace()
                return
            except KvikError as error:
                reason = str(error)
                await self._client.shutdown()
        if self._is_ending or self._config.max_engine_restarts == 0:
            raise EngineDeadError(reason)
        raise EngineDeadError(
            f"{reason}; the engine has been restarted {len(self._restarts)} times in {RESTART_WINDOW_S / 60:.0f} "
            "minutes, as often as --max-engine-restarts allows"
        )

    def dump_stacks(self) -> None:
        """Have the engine write its stacks to the log."""
        self._client.dump_stacks()

    def kill_engine(self, reason: str) -> None:
        """End the engine's process, because of `reason`; who reads the steps hears of it."""
        self._client.kill_engine(reason)

    async def shutdown(self) -> None:
        """End the engine, for good."""
        self._is_ending = True
        await self._client.shutdown()

    async def _replace(self) -> None:
        assert self._asked is not None, "start() comes first"
        started_s = self._clock()
        self._client = self._spawn()
        await self._client.start(self._asked, self._on_phase)
        logger.info("the engine is back after %.1f s, as process %d", self._clock() - started_s, self._client.pid)

    def _forget_old_restarts(self) -> None:
        while self._restarts and self._restarts[0] < self._clock() - RESTART_WINDOW_S:
            self._restarts.popleft()
