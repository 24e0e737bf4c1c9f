"""The executor of one process: the runner is called directly."""

from __future__ import annotations

import logging

from kvik.config import EngineConfig
from kvik.executor.base import MemoryPart
from kvik.messages import EngineFacts, LoraRequest
from kvik.platforms import cpu
from kvik.platforms.choice import gpu_lines, why_cpu
from kvik.platforms.gpus import find_gpus
from kvik.runner.model_runner import ModelRunner
from kvik.step import StepPlan, StepResult
from kvik.telemetry.phases import PhaseTimer

logger = logging.getLogger(__name__)


class UniProcExecutor:
    """Runs the model in the calling process and thread; the kernels spread over their own threads."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._runner: ModelRunner | None = None

    def start(self, phases: PhaseTimer) -> EngineFacts:
        with phases.phase("platform"):
            _tell_device(self._config.device.device)
            self._runner = ModelRunner(self._config, _num_threads(self._config.device.cpu_threads))
        return self._runner.start(phases)

    def execute(self, plan: StepPlan) -> StepResult:
        assert self._runner is not None, "start() comes first"
        return self._runner.execute(plan)

    def release(self, part: MemoryPart) -> int:
        assert self._runner is not None, "start() comes first"
        return self._runner.release_kv_cache() if part == "kv_cache" else self._runner.release_weights()

    def restore(self, part: MemoryPart) -> None:
        assert self._runner is not None, "start() comes first"
        if part == "weights":  # pages of the KV cache come back when they are written
            self._runner.reload_weights()

    def count_progress_at(self, address: int) -> None:
        assert self._runner is not None, "start() comes first"
        self._runner.count_progress_at(address)

    def load_lora(self, lora: LoraRequest, slot: int | None) -> None:
        assert self._runner is not None, "start() comes first"
        self._runner.load_lora(lora, slot)

    def shutdown(self) -> None:
        self._runner = None


def _tell_device(asked: str) -> None:
    found = find_gpus()
    for line in gpu_lines(found):
        logger.info("%s", line)
    logger.info("Computing on the CPU: %s", why_cpu(asked, found))


def _num_threads(asked: int | None) -> int:
    """Threads that compute: as asked, else a thread per core."""
    num_cores = cpu.num_cores()
    if asked is not None and asked > num_cores:
        logger.warning(
            "--cpu-threads %d is more than the %d core(s) that this process may use: threads will wait for each other. "
            "Leave it out to use all cores.", asked, num_cores,
        )  # fmt: skip
    return asked or num_cores
