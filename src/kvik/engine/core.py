"""The engine itself: requests in, steps, answers out. Knows no socket, no signal and no process.

One step reads as three calls: schedule, execute, update. With steps ahead, each is planned while the one before it is
computed (`overlap.py`): schedule and submit the next, then update with the one that is over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from kvik.config import EngineConfig
from kvik.engine.overlap import FinishedStep, StepLine, num_steps_ahead
from kvik.engine.rest import Rest
from kvik.engine.step_clock import StepClock
from kvik.engine.utilities import Utility, call_utility
from kvik.errors import EngineError, KvikError, ModelFileError, RequestError
from kvik.executor.base import Executor
from kvik.grammar.preparer import Preparer
from kvik.messages import EngineFacts, LoraRequest, NewRequest, StepOutputs, TokenDelta
from kvik.scheduler import Scheduler
from kvik.scheduler.constraints import Constraints
from kvik.step import StepPlan
from kvik.telemetry.log import get_logger
from kvik.telemetry.phases import PhaseTimer
from kvik.wire.pulse import PulseWriter

logger = get_logger(__name__)

GRAMMAR_WAIT_S = 0.002
"""With nothing to compute but grammars on their way: how long to wait for one before looking for messages again."""

IDLE_S = 0.3
"""So long without work, the engine does what may come in handy: soon after a start, but in nobody's way."""

READING = {"check_integrity", "describe", "get_facts", "get_supported_tasks", "is_sleeping", "pause", "resume"}
"""Utilities that may be called while a step is under way; all others come after it."""


class EngineCore:
    """Built from what was asked and from whoever computes; `start` comes first, once.

    What a single request causes ends that request with an error in its last `TokenDelta`. What an executor raises is
    about all requests and leaves `step` as it is: after it the engine is over.
    """

    def __init__(
        self,
        config: EngineConfig,
        executor: Executor,
        clock: Callable[[], float] = time.monotonic,
        pulse: PulseWriter | None = None,
    ) -> None:
        """`pulse`: where to show what is going on; None: nobody looks."""
        self._config = config
        self._pulse = pulse
        self._executor = executor
        self._clock = clock
        self.times = StepClock()
        """The loop around this engine says here what passing messages on took."""
        self._facts: EngineFacts | None = None
        self._scheduler: Scheduler | None = None
        self._steps = StepLine(executor, 0, clock)
        self._early: list[TokenDelta] = []
        """Of steps that had to be over before something else: they go out with the next ones."""
        self._preparer: Preparer | None = None
        self._may_want_idle_time = True
        """Since the last step something may be left to do for when there is nothing to do."""
        self._rest = Rest(executor, lambda: self.scheduler)
        self._utilities: dict[str, Utility] = {
            "add_lora": self.add_lora,
            "check_integrity": self.check_integrity,
            "describe": self.describe,
            "get_facts": self.get_facts,
            "get_supported_tasks": self.get_supported_tasks,
            "is_sleeping": lambda: self._rest.is_sleeping,
            "pause": self._rest.pause,
            "release_kv_cache": self._rest.release_kv_cache,
            "remove_lora": self.remove_lora,
            "reset_prefix_cache": self.reset_prefix_cache,
            "resume": self._rest.resume,
            "sleep": self._rest.sleep,
            "wake_up": self._rest.wake_up,
        }

    def start(self, phases: PhaseTimer) -> EngineFacts:
        """Load and measure. Raises what `Executor.start` raises."""
        facts = self._executor.start(phases)
        if self._pulse is not None:
            self._executor.count_progress_at(self._pulse.native_progress_address)
        with phases.phase("scheduler"):
            self._preparer = Preparer(self._config.model)
            self._scheduler = Scheduler(
                self._config.scheduler,
                self._config.cache,
                facts.num_blocks,
                facts.max_model_len,
                self._clock,
                self._config.speculative,
                Constraints(self._preparer),
                self._config.lora,
            )
        self._steps = StepLine(self._executor, num_steps_ahead(self._config, facts), self._clock)
        self._facts = facts
        return facts

    @property
    def scheduler(self) -> Scheduler:
        """Raises `EngineError` before `start`."""
        if self._scheduler is None:
            raise EngineError("the engine was not started")
        return self._scheduler

    # --- requests and steps -------------------------------------------------------------------------

    @property
    def has_work(self) -> bool:
        """Whether `step` has something to do; a resting engine has last words of ended requests at most."""
        if self._rest.may_compute:
            return bool(self._early) or self.scheduler.has_work
        return bool(self._early or self._steps) or self.scheduler.has_last_words

    @property
    def patience_s(self) -> float | None:
        """How long to wait for a message before `use_idle_time`; None: for ever, there is nothing to do."""
        return IDLE_S if self._may_want_idle_time and self._rest.may_compute else None

    def turn(self) -> None:
        """The loop around this engine is alive."""
        if self._pulse is not None:
            self._pulse.turn()

    def use_idle_time(self) -> None:
        """Read the vocabulary for grammars, in a thread; then what the executor likes to have ready.

        Nothing while the engine rests: what would be computed with may be gone.
        """
        if not self._rest.may_compute:
            return
        if self._preparer is not None and not self._preparer.is_warm:
            self._preparer.warm_up()
        else:
            self._may_want_idle_time = self._executor.use_idle_time()

    def add_request(self, request: NewRequest) -> None:
        """Queue a request. Never raises for what is wrong with it: that is its own last word, in the next step."""
        try:
            self.scheduler.add(request)
        except KvikError as error:
            param = error.param if isinstance(error, RequestError) else None
            self.scheduler.fail(request.request_id, str(error), param)
        except Exception as error:
            logger.exception("request %s could not be queued", request.request_id)
            self.scheduler.fail(request.request_id, f"{type(error).__name__}: {error}")

    def reject(self, request_id: str, error: str) -> None:
        """Answer a request that could not even be read."""
        self.scheduler.fail(request_id, error)

    def abort(self, request_ids: Sequence[str]) -> None:
        """End requests wherever they stand; their blocks are free once no step uses them. Unknown ids are ignored."""
        self.scheduler.abort(request_ids)

    def step(self) -> StepOutputs | None:
        """Compute one step, or begin one while the one before it is under way.

        None when it brought nothing to anybody and statistics are off, nothing is over yet, or there is no work.
        """
        started_s = self._clock()
        scheduler = self.scheduler
        if not self.has_work:
            return None
        self.times.go()
        self._may_want_idle_time = True
        plan = self._plan_step() if self._rest.may_compute else None
        if plan is None and not self._steps and self._preparer is not None:
            self._preparer.wait(GRAMMAR_WAIT_S)
        deltas, self._early = self._early + scheduler.take_ended(), []
        finished = self._turn(plan, started_s)
        if finished is not None:
            deltas += self._take_in(finished)
        elif plan is not None and not deltas:
            return None
        if self._pulse is not None and not self._steps:
            self._pulse.between_steps()
        ended_s = self._clock()
        if not self._config.observability.log_stats:
            return StepOutputs(deltas, ended_s) if deltas else None
        stats = scheduler.stats()
        stats.step_time_s = ended_s - (started_s if finished is None else finished.started_s)
        stats.step_times = None if finished is None else self.times.take()
        return StepOutputs(deltas, ended_s, stats)

    def _turn(self, plan: StepPlan | None, started_s: float) -> FinishedStep | None:
        self.times.scheduled()
        finished = self._steps.turn(plan, started_s)
        self.times.executed(0.0 if finished is None else finished.result.sample_s)
        return finished

    def _take_in(self, step: FinishedStep) -> list[TokenDelta]:
        deltas = self.scheduler.update(step.plan, step.result)
        self.times.updated()
        self.scheduler.learn_step_time(step.plan, self._clock() - step.started_s)
        return deltas

    def _finish_steps(self) -> None:
        """Wait for all that is under way."""
        while (step := self._steps.turn(None)) is not None:
            self._early += self._take_in(step)

    def _plan_step(self) -> StepPlan | None:
        """`schedule`, while the pulse shows whom a failure from here on is about: all at first, then the steps'."""
        if self._pulse is None:
            return self.scheduler.schedule()
        self._pulse.planning()
        plan = self.scheduler.schedule()
        planned_ids = [] if plan is None else [share.request_id for share in plan.scheduled]
        present_ids = list(dict.fromkeys([*self._steps.request_ids, *planned_ids]))
        if present_ids:
            self._pulse.computing(present_ids)
        return plan

    def shutdown(self) -> None:
        """Give back what the executor holds. Requests that still run are dropped without a word."""
        if self._preparer is not None:
            self._preparer.close()
        self._executor.shutdown()

    # --- utilities: what may be asked beside requests -----------------------------------------------

    def utility(self, method: str, args: Sequence[Any]) -> Any:
        """Call one of the methods below by its name. Raises `EngineError` for an unknown name or wrong arguments."""
        if method not in READING:
            self._finish_steps()
        return call_utility(self._utilities, method, args)

    def reset_prefix_cache(self, reset_running_requests: bool = False) -> bool:
        """Forget all cached prefixes. False, and nothing done, while a request holds blocks.

        `reset_running_requests`: take the blocks from those that run, which are computed again.
        """
        if reset_running_requests:
            self._rest.reset_prefix_cache()
            return True
        return self.scheduler.reset_prefix_cache()

    def add_lora(self, name: str, int_id: int, path: str) -> str | None:
        """Read an adapter, into a slot where one is idle. None, or what is wrong with it.

        Requests bring their adapter with them, so this is not needed before they come: it is what tells early.
        """
        if self._config.lora is None:
            return "adapters are off; start with --enable-lora"
        lora = LoraRequest(name, int_id, path)
        slot = self.scheduler.place_adapter(lora)
        try:
            self._executor.load_lora(lora, slot)
        except ModelFileError as error:
            self.scheduler.forget_adapter(lora)
            return str(error)
        return None

    def remove_lora(self, name: str, int_id: int, path: str) -> None:
        """Free an adapter's slot, once the requests that run with it have ended."""
        self.scheduler.forget_adapter(LoraRequest(name, int_id, path))

    def check_integrity(self) -> str:
        """ "ok", or raises `EngineError` with the numbers that disagree."""
        self.scheduler.check_integrity()
        return "ok"

    def describe(self) -> dict[str, Any]:
        """What runs and what waits."""
        return self.scheduler.describe()

    def get_facts(self) -> dict[str, Any]:
        """`EngineFacts` by field name."""
        if self._facts is None:
            raise EngineError("the engine was not started")
        return {name: getattr(self._facts, name) for name in self._facts.__struct_fields__}

    def get_supported_tasks(self) -> list[str]:
        return ["generate"]
