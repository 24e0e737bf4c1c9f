"""Requests with a grammar: prepared aside, overtaken meanwhile, ended by their grammar or by its failure."""

from __future__ import annotations

import numpy as np

from kvik.config import CacheConfig, SchedulerConfig
from kvik.messages import FinishReason, NewRequest
from kvik.sampling_params import SamplingParams
from kvik.scheduler import Scheduler
from kvik.scheduler.constraints import Constraints, GrammarWish
from kvik.step import SampledTokens, StepResult
from kvik.structured_outputs import StructuredOutputs


class CountingConstraint:
    """Allows token 5 only, `num_tokens` times."""

    def __init__(self, num_tokens: int) -> None:
        self.num_left = num_tokens
        self.error: str | None = None

    @property
    def is_complete(self) -> bool:
        return self.num_left == 0

    def count_valid(self, token_ids: list[int]) -> int:
        return 0

    def masks(self, draft_token_ids: list[int]) -> np.ndarray:
        return np.array([[1 << 5]], np.uint32)

    def advance(self, token_id: int) -> bool:
        self.num_left -= 1
        self.error = None if token_id == 5 else "5 was expected"
        return token_id == 5


class FakePreparer:
    def __init__(self) -> None:
        self.wishes: dict[str, GrammarWish] = {}
        self.ready: list[tuple[str, CountingConstraint | str]] = []

    def submit(self, request_id: str, wish: GrammarWish) -> None:
        self.wishes[request_id] = wish

    def take_ready(self) -> list[tuple[str, CountingConstraint | str]]:
        ready, self.ready = self.ready, []
        return ready


def make() -> tuple[Scheduler, FakePreparer]:
    preparer = FakePreparer()
    scheduler = Scheduler(
        SchedulerConfig(), CacheConfig(), 16, 64, constraints=Constraints(preparer)  # type: ignore[arg-type]
    )  # fmt: skip
    return scheduler, preparer


def add(scheduler: Scheduler, name: str, *, constrained: bool) -> None:
    wish = StructuredOutputs(compiled="g", param="guided_regex") if constrained else None
    scheduler.add(
        NewRequest(name, [1, 2], SamplingParams(max_tokens=9, stop_token_ids=[8], structured_outputs=wish), 0.0, 7)
    )


def run(scheduler: Scheduler, token_id: int = 5):  # type: ignore[no-untyped-def]
    plan = scheduler.schedule()
    assert plan is not None
    return plan, scheduler.update(plan, StepResult([SampledTokens(s.request_id, [token_id]) for s in plan.scheduled]))


def test_others_overtake_a_request_that_is_being_prepared_and_its_grammar_ends_it() -> None:
    scheduler, preparer = make()
    add(scheduler, "slow", constrained=True)
    assert scheduler.schedule() is None
    assert scheduler.has_work
    add(scheduler, "quick", constrained=False)
    plan, _ = run(scheduler)
    assert [(s.request_id, s.token_masks) for s in plan.scheduled] == [("quick", None)]
    assert preparer.wishes["slow"].ending_ids == {7, 8}
    scheduler.check_integrity()
    preparer.ready = [("slow", CountingConstraint(2))]
    plan, _ = run(scheduler)
    masks = {s.request_id: s.token_masks for s in plan.scheduled}
    assert masks["quick"] is None
    assert masks["slow"].tolist() == [[32]]
    _, deltas = run(scheduler)
    (last,) = [d for d in deltas if d.request_id == "slow"]
    assert (last.finish_reason, last.stop_reason, last.ends_with_text) == (FinishReason.STOP, None, True)


def test_what_goes_wrong_with_a_grammar_ends_its_request_only() -> None:
    scheduler, preparer = make()
    for name in ("bad", "gone", "wrong"):
        add(scheduler, name, constrained=True)
    add(scheduler, "other", constrained=False)
    scheduler.abort(["gone"])
    preparer.ready = [("bad", "no such grammar"), ("gone", CountingConstraint(1)), ("wrong", CountingConstraint(3))]
    _, deltas = run(scheduler, token_id=6)
    ended = {d.request_id: d for d in [*scheduler.take_ended(), *deltas] if d.finish_reason is not None}
    assert {name: d.finish_reason for name, d in ended.items()} == {
        "gone": FinishReason.ABORT, "bad": FinishReason.ERROR, "wrong": FinishReason.ERROR,
    }  # fmt: skip
    assert (ended["bad"].error, ended["wrong"].error) == ("no such grammar", "5 was expected")
    assert ended["wrong"].error_param == ended["bad"].error_param == "guided_regex"
    scheduler.check_integrity()
