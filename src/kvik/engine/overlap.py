"""Steps that the executor has, in their order: one, or two, so that the next is there when the first is over.

Knows plans and results as they pass, no request and no scheduler.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from kvik.config import EngineConfig
from kvik.executor.base import Executor, StepInFlight
from kvik.messages import EngineFacts
from kvik.step import StepPlan, StepResult
from kvik.telemetry.log import get_logger

logger = get_logger(__name__)


def num_steps_ahead(config: EngineConfig, facts: EngineFacts) -> int:
    """How many steps may be under way while another one is planned: as asked, else 1 where that is faster.

    On a CPU the kernels want the cores that planning would take, so it is not; drafts are made of known tokens.
    """
    asked = config.scheduler.async_scheduling
    is_on = facts.device != "cpu" if asked is None else asked
    if config.speculative is not None:
        is_on = False
    if is_on:
        logger.info("Asynchronous scheduling is enabled: each step is planned while the one before it is computed.")
    return int(is_on)


@dataclass(frozen=True, slots=True)
class FinishedStep:
    plan: StepPlan
    result: StepResult
    started_s: float
    """When its planning began, or the step before it was over, whichever was later: since then it alone took time."""


class StepLine:
    """`turn` hands one step over and takes back the first that is under way, once more than `num_ahead` are."""

    def __init__(self, executor: Executor, num_ahead: int, clock: Callable[[], float]) -> None:
        self._executor = executor
        self._num_ahead = num_ahead
        self._clock = clock
        self._under_way: deque[tuple[StepPlan, StepInFlight, float]] = deque()
        self._last_ended_s = 0.0

    def __len__(self) -> int:
        """Steps under way."""
        return len(self._under_way)

    @property
    def request_ids(self) -> list[str]:
        """Of the steps under way."""
        return [share.request_id for plan, _, _ in self._under_way for share in plan.scheduled]

    def turn(self, plan: StepPlan | None, started_s: float = 0.0) -> FinishedStep | None:
        """Hand over the next step, whose planning began at `started_s`; None: there is none before one is over.

        Waits for the step that it returns; None while there is no need to. Raises what `Executor.execute` raises.
        """
        if plan is not None and not self._num_ahead:
            return self._finished(plan, self._executor.execute(plan), started_s)
        if plan is not None:
            self._under_way.append((plan, self._executor.submit(plan), started_s))
        if not self._under_way or (plan is not None and len(self._under_way) <= self._num_ahead):
            return None
        first, in_flight, first_started_s = self._under_way.popleft()
        return self._finished(first, in_flight.result(), first_started_s)

    def _finished(self, plan: StepPlan, result: StepResult, started_s: float) -> FinishedStep:
        step = FinishedStep(plan, result, max(started_s, self._last_ended_s))
        self._last_ended_s = self._clock()
        return step
