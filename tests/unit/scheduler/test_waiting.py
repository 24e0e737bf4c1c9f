"""What the scheduler says that requests wait for."""

from __future__ import annotations

from typing import Any

import pytest
from fake_executor import FakeExecutor

from kvik.config import CacheConfig, SchedulerConfig
from kvik.config.lora import LoraConfig
from kvik.messages import EventKind, LoraRequest, NewRequest, WaitingFor
from kvik.sampling_params import SamplingParams
from kvik.scheduler import Scheduler
from kvik.scheduler.request import Request, RequestStatus
from kvik.scheduler.waiting import HeldUp, Lack


class Engine:
    def __init__(self, *, num_blocks: int = 100, lora: LoraConfig | None = None, **scheduler: Any) -> None:
        cache = CacheConfig(block_size=4, enable_prefix_caching=False)
        self.scheduler = Scheduler(SchedulerConfig(**scheduler), cache, num_blocks, 400, lora=lora)
        self._executor = FakeExecutor(num_blocks=num_blocks, block_size=4)

    def add(self, request_id: str, num_tokens: int, lora: LoraRequest | None = None) -> None:
        params = SamplingParams(max_tokens=100)
        self.scheduler.add(NewRequest(request_id, [1] * num_tokens, params, 1e9, lora=lora))

    def reasons(self) -> dict[str, str | None]:
        """Of those that do not run, by id."""
        return {r["request_id"]: r["waiting_for"] for r in self.scheduler.describe()["waiting"]}

    def step(self) -> WaitingFor | None:
        plan = self.scheduler.schedule()
        assert plan is not None
        self.scheduler.update(plan, self._executor.execute(plan))
        return self.scheduler.stats().waiting_for


def test_nobody_waits() -> None:
    engine = Engine()
    engine.add("a", 4)
    assert engine.step() is None


def test_slots() -> None:
    engine = Engine(max_num_seqs=1)
    for name in "abc":
        engine.add(name, 4)
    assert engine.step() == WaitingFor(slots=2)


def test_the_budget_of_tokens() -> None:
    engine = Engine(max_num_batched_tokens=8)
    for name in "abc":
        engine.add(name, 16)
    assert engine.step() == WaitingFor(budget=2)


def test_a_prompt_that_is_not_to_be_cut_waits_for_the_budget() -> None:
    engine = Engine(max_num_batched_tokens=24, enable_chunked_prefill=False)
    for name in "ab":
        engine.add(name, 16)
    assert engine.step() == WaitingFor(budget=1)


def test_blocks() -> None:
    engine = Engine(num_blocks=6)
    for name in "abc":
        engine.add(name, 16)
    assert engine.step() == WaitingFor(blocks=2)


def test_who_was_preempted_waits_for_blocks() -> None:
    engine = Engine(num_blocks=4)
    for name in "ab":
        engine.add(name, 8)
    assert engine.step() is None
    assert engine.step() == WaitingFor(blocks=1)


def test_adapters_are_told_from_what_others_lack() -> None:
    engine = Engine(lora=LoraConfig(max_loras=1), max_num_seqs=2)
    first, second = LoraRequest("x", 1, "/x"), LoraRequest("y", 2, "/y")
    engine.add("a", 4, first)
    engine.add("b", 4, second)
    engine.add("c", 4, second)
    assert engine.step() == WaitingFor(adapter=2)
    engine.add("d", 4, first)
    engine.add("e", 4, first)
    assert engine.step() == WaitingFor(adapter=2, slots=1)


@pytest.mark.parametrize("lack", Lack)
@pytest.mark.parametrize(("num_queued", "num_aside"), [(0, 0), (3, 0), (3, 2), (1, 2)])
def test_the_sum_is_all_that_wait(lack: Lack, num_queued: int, num_aside: int) -> None:
    waiting = HeldUp(lack, frozenset(map(str, range(num_aside)))).waiting_for(num_queued, num_preparing=2)
    assert waiting is not None
    assert sum(getattr(waiting, name) for name in waiting.__struct_fields__) == num_queued + 2


def test_each_that_waits_says_for_what() -> None:
    engine = Engine(lora=LoraConfig(max_loras=1), max_num_seqs=2)
    first, second = LoraRequest("x", 1, "/x"), LoraRequest("y", 2, "/y")
    for name, lora in (("a", first), ("b", second), ("c", first), ("d", first)):
        engine.add(name, 4, lora)
    engine.step()
    engine.add("late", 4)
    assert engine.reasons() == {"b": "adapter", "d": "slots", "late": None}
    engine.step()
    assert engine.reasons() == {"b": "slots", "d": "slots", "late": "slots"}, "there is no slot: adapters come after"


def test_who_is_admitted_says_what_it_waited_for() -> None:
    engine = Engine(max_num_seqs=1)
    engine.add("a", 4)
    engine.add("b", 4)
    engine.step()
    engine.scheduler.abort(["a"])
    plan = engine.scheduler.schedule()
    assert plan is not None
    (b,) = (r for r in engine.scheduler._running if r.request_id == "b")
    assert [(event.kind, event.reason) for event in b.events] == [
        (EventKind.QUEUED, None), (EventKind.SCHEDULED, "slots")
    ]  # fmt: skip


def test_who_waited_only_for_its_grammar_says_so() -> None:
    message = NewRequest("a", [1], SamplingParams(), 0.0)
    request = Request.from_message(message, 10)
    scanned = HeldUp(Lack.SLOTS, at_s=0.5)
    request.queued_s, request.waits_since_s = 1.0, 1.001
    assert scanned.reason_of(request) is None
    request.waits_since_s = 1.2
    assert scanned.reason_of(request) == "grammar"
    request.status = RequestStatus.PREPARING
    assert HeldUp(Lack.SLOTS, at_s=5.0).reason_of(request) == "grammar"
