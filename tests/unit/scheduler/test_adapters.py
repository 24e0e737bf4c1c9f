"""Slots of adapters by hand: who gets one, who waits, and that nobody waits for ever."""

from __future__ import annotations

import pytest
from fake_executor import FakeExecutor

from kvik.config import CacheConfig, SchedulerConfig
from kvik.config.lora import LoraConfig
from kvik.errors import EngineRequestError
from kvik.messages import LoraRequest, NewRequest, TokenDelta
from kvik.sampling_params import SamplingParams
from kvik.scheduler import Scheduler
from kvik.scheduler.adapters import PATIENCE_S, AdapterSlots

A, B, C = (LoraRequest(name, i, f"/{name}") for i, name in enumerate("abc", 1))


class Engine:
    """Shares of each step as {request id: tokens}; the clock stands still unless it is moved."""

    def __init__(self, *, max_loras: int = 1, max_cpu_loras: int = 1, **scheduler: int) -> None:
        self.now_s = 0.0
        self.scheduler = Scheduler(
            SchedulerConfig(max_step_ms=0, **scheduler), CacheConfig(block_size=4), 100, 400, lambda: self.now_s,
            lora=LoraConfig(max_loras=max_loras, max_cpu_loras=max_cpu_loras),
        )  # fmt: skip
        self.executor = FakeExecutor(num_blocks=100, max_model_len=400, vocab_size=10**5)
        self.deltas: list[TokenDelta] = []

    def add(self, request_id: str, lora: LoraRequest | None, *, max_tokens: int = 2, prompt: int = 5) -> None:
        params = SamplingParams(max_tokens=max_tokens)
        self.scheduler.add(NewRequest(request_id, list(range(prompt)), params, self.now_s, None, 0, None, lora))

    def step(self) -> dict[str, int]:
        plan = self.scheduler.schedule()
        self.deltas = self.scheduler.take_ended()
        if plan is None:
            return {}
        self.deltas += self.scheduler.update(plan, self.executor.execute(plan))
        self.scheduler.check_integrity()
        return {s.request_id: s.num_scheduled_tokens for s in plan.scheduled}


def test_an_adapter_without_a_slot_waits_and_others_go_on() -> None:
    engine = Engine()
    engine.add("1", A)
    engine.add("2", B)
    engine.add("3", None)
    engine.add("4", A)
    assert engine.step().keys() == {"1", "3", "4"}
    stats = engine.scheduler.stats()
    assert (stats.running_loras, stats.waiting_loras) == (["a"], ["b"])
    assert (stats.num_running, stats.num_waiting) == (3, 1)
    assert engine.step().keys() == {"1", "3", "4"}
    assert engine.step() == {"2": 5}
    assert engine.executor.loaded == {0: B}


def test_those_that_were_set_aside_keep_their_turns() -> None:
    engine = Engine(max_num_seqs=2)
    for request_id, lora in (("1", A), ("2", B), ("3", C), ("4", None), ("5", B)):
        engine.add(request_id, lora)
    assert engine.step().keys() == {"1", "4"}
    engine.step()
    assert engine.step().keys() == {"2", "5"}
    engine.step()
    assert engine.step().keys() == {"3"}


def test_several_adapters_share_a_step() -> None:
    engine = Engine(max_loras=2, max_cpu_loras=3)
    for request_id, lora in (("1", A), ("2", B), ("3", C)):
        engine.add(request_id, lora)
    assert engine.step().keys() == {"1", "2"}
    assert set(engine.executor.loaded.values()) == {A, B}


def test_who_has_waited_long_is_not_overtaken_any_more() -> None:
    engine = Engine()
    engine.add("1", A, max_tokens=3)
    engine.step()
    engine.add("2", B)
    engine.add("3", A, max_tokens=3)
    assert engine.step().keys() == {"1", "3"}
    engine.now_s = PATIENCE_S + 1
    engine.add("4", A)
    engine.add("5", None)
    assert engine.step().keys() == {"1", "3", "5"}
    assert engine.step().keys() == {"3", "5"}
    assert engine.step().keys() == {"2"}
    engine.step()
    assert engine.step().keys() == {"4"}


def test_requests_of_different_adapters_share_no_blocks() -> None:
    """The executor would find keys and values of another adapter."""
    engine = Engine(max_loras=3, max_cpu_loras=3)
    again = LoraRequest("a", 9, "/a")
    for i, lora in enumerate((A, B, None, A, again)):
        engine.add(str(i), lora, prompt=17, max_tokens=1)
        engine.step()
    hits = [engine.scheduler.stats().prefix_cache_hits]
    assert hits == [16], "only the second request of the first adapter found its prompt"


def test_a_preempted_request_gives_its_slot_back() -> None:
    engine = Engine()
    engine.add("1", A, max_tokens=9)
    engine.step()
    (request,) = engine.scheduler._running
    engine.scheduler._preempt(request)
    assert engine.scheduler.stats().running_loras == []
    assert engine.step() == {"1": 2}, "its first block was found again"


def test_an_aborted_request_gives_its_slot_back() -> None:
    engine = Engine()
    engine.add("1", A)
    engine.add("2", B)
    engine.step()
    engine.scheduler.abort(["1"])
    assert engine.step().keys() == {"2"}


def test_adapters_need_to_be_on() -> None:
    scheduler = Scheduler(SchedulerConfig(), CacheConfig(block_size=4), 10, 40)
    with pytest.raises(EngineRequestError, match="adapters are off"):
        scheduler.add(NewRequest("1", [1], SamplingParams(), 0.0, lora=A))


def test_the_least_recently_used_idle_adapter_makes_room() -> None:
    slots = AdapterSlots(LoraConfig(max_loras=2, max_cpu_loras=2))
    first, second = slots.acquire(A), slots.acquire(B)
    assert not slots.can_run(C)
    slots.release(A)
    assert slots.can_run(C)
    assert slots.place(A) == first
    slots.release(B)
    assert slots.acquire(C) == second, "B was used before A"
    assert slots.place(B) == first
    assert slots.place(A) == first


def test_no_slot_is_taken_from_who_runs() -> None:
    slots = AdapterSlots(LoraConfig(max_loras=1, max_cpu_loras=1))
    slots.acquire(A)
    slots.acquire(A)
    assert slots.place(B) is None
    slots.release(A)
    assert slots.place(B) is None
    slots.release(A)
    assert slots.place(B) == 0


def test_a_forgotten_adapter_keeps_its_slot_until_its_requests_have_ended() -> None:
    slots = AdapterSlots(LoraConfig(max_loras=2, max_cpu_loras=2))
    slot = slots.acquire(A)
    slots.forget(A)
    assert slots.acquire(A) == slot
    slots.release(A)
    assert slots.acquire(B) != slot
    slots.release(A)
    assert slots.running == [B]
    assert slots.place(C) == slot
    slots.forget(LoraRequest("nobody", 7, "/"))


def test_waiting_by_priority_leaves_nothing_behind_in_the_heap() -> None:
    engine = Engine(policy="priority")  # type: ignore[arg-type]
    engine.add("1", A, max_tokens=30)
    engine.add("2", B)
    for _ in range(20):
        engine.step()
    assert len(engine.scheduler._waiting._heap) == 1  # type: ignore[attr-defined]
