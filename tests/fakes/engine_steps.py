"""An engine core over the fake executor, run step by step, and what the steps brought to one request."""

from __future__ import annotations

from typing import Any

from fake_executor import FakeExecutor
from tiny_config import tiny_config

from kvik.engine.core import EngineCore
from kvik.messages import NewRequest, StepOutputs, TokenDelta
from kvik.sampling_params import SamplingParams
from kvik.telemetry.phases import PhaseTimer


def started(executor: FakeExecutor | None = None, **config: Any) -> EngineCore:
    core = EngineCore(tiny_config(**config), executor or FakeExecutor())
    core.start(PhaseTimer("test"))
    return core


def request(request_id: str, num_tokens: int = 5, max_tokens: int = 3) -> NewRequest:
    return NewRequest(request_id, list(range(num_tokens)), SamplingParams(max_tokens=max_tokens), 0.0)


def run(core: EngineCore) -> list[StepOutputs]:
    steps = []
    while core.has_work:
        outputs = core.step()
        assert outputs is not None
        steps.append(outputs)
    core.utility("check_integrity", [])
    return steps


def deltas_of(steps: list[StepOutputs], request_id: str) -> list[TokenDelta]:
    return [delta for step in steps for delta in step.deltas if delta.request_id == request_id]
