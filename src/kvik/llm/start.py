"""The engine of the offline door: loaded in this process. torch is imported here, once a model is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvik.config import EngineConfig
from kvik.messages import EngineFacts
from kvik.telemetry.phases import PhaseTimer

if TYPE_CHECKING:
    from kvik.engine.core import EngineCore


def start_core(config: EngineConfig, timer: PhaseTimer) -> tuple[EngineCore, EngineFacts]:
    """Import torch and load. What has been taken when it fails is given back."""
    with timer.phase("imports"):
        from kvik.engine.core import EngineCore
        from kvik.executor.choice import make_executor
    core = EngineCore(config, make_executor(config))
    try:
        return core, core.start(timer)
    except BaseException:
        core.shutdown()
        raise
