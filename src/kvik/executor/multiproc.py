"""The executor of worker processes that share a model: each plan goes to all, the first one's result comes back.

This process holds no tensor. A worker that ends, for whatever reason, is the end of the engine: `EngineError` from the
next call, or from the one that waits.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, replace

from kvik.config import EngineConfig
from kvik.errors import ConfigError, EngineError, ModelFileError
from kvik.executor.base import StepInFlight
from kvik.executor.device_choice import for_workers
from kvik.executor.worker_messages import (
    Call,
    Collect,
    Done,
    FromWorker,
    LoadLora,
    Release,
    Restore,
    Stepped,
    Submit,
    UseIdleTime,
    WorkerPhase,
    WorkerReady,
    WorkerStart,
)
from kvik.executor.workers import Workers
from kvik.messages import EngineFacts, LoraRequest, Phase
from kvik.step import MemoryPart, StepPlan, StepResult
from kvik.telemetry.phases import PhaseTimer


class MultiProcExecutor:
    """`tensor_parallel_size` workers."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._workers: Workers | None = None
        self._progress: ctypes.c_uint64 | None = None
        """Where the engine's own watcher looks."""

    @property
    def worker_pids(self) -> list[int]:
        return [] if self._workers is None else self._workers.pids

    def start(self, phases: PhaseTimer) -> EngineFacts:
        with phases.phase("workers"):
            config, environments = for_workers(self._config)
            workers = self._workers = Workers(environments, config.observability.log_level)
            for rank in range(len(environments)):
                workers.tell(rank, WorkerStart(_quieter(config, rank), rank, str(workers.meeting)))
        facts: dict[int, EngineFacts] = {}

        def take(rank: int, message: FromWorker) -> bool:
            if isinstance(message, WorkerPhase) and rank == 0:
                _pass_on(message.phase, phases)
            if isinstance(message, WorkerReady):
                facts[rank] = message.facts
            return rank in facts

        workers.collect(take)
        return facts[0]

    def execute(self, plan: StepPlan) -> StepResult:
        return self.submit(plan).result()

    def submit(self, plan: StepPlan) -> StepInFlight:
        self._started.tell_all(Submit(plan))
        return _Submitted(self)

    def collect_step(self) -> StepResult:
        """The result of the first submitted step whose result was not asked for yet."""
        answers: dict[int, Stepped] = {}

        def take(rank: int, message: FromWorker) -> bool:
            if not isinstance(message, Stepped):
                raise EngineError(f"worker {rank} was asked for a step and answered {type(message).__name__}")
            answers[rank] = message
            return True

        self._started.tell_all(Collect())
        self._started.collect(take, self._pass_progress_on)
        if len({answer.tokens_checksum for answer in answers.values()}) != 1:
            raise EngineError("the workers have chosen different tokens: their memory or a device is broken")
        result = answers[0].result
        assert result is not None, "the first worker sends its result"
        return result

    def release(self, part: MemoryPart) -> int:
        return self._call(Release(part))

    def restore(self, part: MemoryPart) -> None:
        self._call(Restore(part))

    def count_progress_at(self, address: int) -> None:
        self._progress = ctypes.c_uint64.from_address(address)

    def use_idle_time(self) -> bool:
        """Also the moment in which a worker that ended while nothing was to be done is missed."""
        self._started.check()
        return self._call(UseIdleTime()) > 0

    def load_lora(self, lora: LoraRequest, slot: int | None) -> None:
        self._call(LoadLora(lora, slot))

    def shutdown(self) -> None:
        if self._workers is not None:
            self._workers.end()
            self._workers = None

    @property
    def _started(self) -> Workers:
        assert self._workers is not None, "start() comes first"
        return self._workers

    def _call(self, call: Call) -> int:
        """All workers' values, added. Raises the error of the first worker that has one."""
        answers: dict[int, Done] = {}

        def take(rank: int, message: FromWorker) -> bool:
            if not isinstance(message, Done):
                raise EngineError(f"worker {rank} was asked to act and answered {type(message).__name__}")
            answers[rank] = message
            return True

        self._started.tell_all(call)
        self._started.collect(take, self._pass_progress_on)
        for _, answer in sorted(answers.items()):
            if answer.error is not None:
                raise _KINDS.get(answer.error, EngineError)(answer.message)
        return sum(answer.value for answer in answers.values())

    def _pass_progress_on(self) -> None:
        if self._progress is not None:
            self._progress.value = self._started.page.count


_KINDS = {kind.__name__: kind for kind in (ConfigError, ModelFileError)}


@dataclass(frozen=True, slots=True)
class _Submitted:
    executor: MultiProcExecutor

    def result(self) -> StepResult:
        return self.executor.collect_step()


def _pass_on(phase: Phase, phases: PhaseTimer) -> None:
    if phase.end_s is None:
        phases.tell(phase)
    else:
        phases.add(phase)


def _quieter(config: EngineConfig, rank: int) -> EngineConfig:
    """One bar for all workers."""
    return config if rank == 0 else replace(config, load=replace(config.load, use_tqdm_on_load=False))
