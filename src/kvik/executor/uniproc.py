"""The executor of one process: the runner is called directly."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from kvik.config import EngineConfig
from kvik.executor.base import StepInFlight
from kvik.executor.device_choice import open_device
from kvik.messages import EngineFacts, LoraRequest
from kvik.runner.model_runner import ModelRunner
from kvik.step import MemoryPart, StepPlan, StepResult
from kvik.telemetry.phases import PhaseTimer


class UniProcExecutor:
    """Runs the model in the calling process and thread; on a CPU, submitted steps in one thread beside it, and the
    kernels spread over their own."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._runner: ModelRunner | None = None
        self._worker: ThreadPoolExecutor | None = None
        """From the first submitted step on."""

    def start(self, phases: PhaseTimer) -> EngineFacts:
        with phases.phase("platform"):
            self._runner = ModelRunner(self._config, open_device(self._config))
        return self._runner.start(phases)

    def execute(self, plan: StepPlan) -> StepResult:
        assert self._runner is not None, "start() comes first"
        return self._runner.execute(plan)

    def submit(self, plan: StepPlan) -> StepInFlight:
        assert self._runner is not None, "start() comes first"
        if self._runner.launches:
            return self._runner.submit(plan)
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, "step")
        return self._worker.submit(self._runner.execute, plan)

    def release(self, part: MemoryPart) -> int:
        assert self._runner is not None, "start() comes first"
        return self._runner.release(part)

    def restore(self, part: MemoryPart) -> None:
        assert self._runner is not None, "start() comes first"
        self._runner.restore(part)

    def count_progress_at(self, address: int) -> None:
        assert self._runner is not None, "start() comes first"
        self._runner.count_progress_at(address)

    def use_idle_time(self) -> bool:
        assert self._runner is not None, "start() comes first"
        return self._runner.use_idle_time()

    def load_lora(self, lora: LoraRequest, slot: int | None) -> None:
        assert self._runner is not None, "start() comes first"
        self._runner.load_lora(lora, slot)

    def shutdown(self) -> None:
        if self._worker is not None:
            self._worker.shutdown(cancel_futures=True)
            self._worker = None
        self._runner = None
