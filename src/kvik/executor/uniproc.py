"""The executor of one process: the runner is called directly."""

from __future__ import annotations

from kvik.config import EngineConfig
from kvik.messages import EngineFacts
from kvik.platforms import cpu
from kvik.runner.model_runner import ModelRunner
from kvik.step import StepPlan, StepResult
from kvik.telemetry.phases import PhaseTimer


class UniProcExecutor:
    """Runs the model in the calling process and thread; the kernels spread over their own threads."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._runner: ModelRunner | None = None

    def start(self, phases: PhaseTimer) -> EngineFacts:
        num_threads = self._config.device.cpu_threads or cpu.num_cores()
        self._runner = ModelRunner(self._config, num_threads)
        return self._runner.start(phases)

    def execute(self, plan: StepPlan) -> StepResult:
        assert self._runner is not None, "start() comes first"
        return self._runner.execute(plan)

    def shutdown(self) -> None:
        self._runner = None
