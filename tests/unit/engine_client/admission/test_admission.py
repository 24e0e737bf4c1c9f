from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvik.engine_client.admission.admission import AdmissionDesk, QueueLimits
from kvik.engine_client.admission.ticket import Ticket, WaitReason
from kvik.engine_client.admission.window import EngineWindow
from kvik.errors import QueueFullError
from kvik.messages import FinishReason, NewRequest, SchedulerStats, StepOutputs, TokenDelta, WaitingFor
from kvik.sampling_params import SamplingParams

MAX_SEQS = 2


def sequences(name: str, num: int = 1, num_prompt_tokens: int = 4, priority: int = 0) -> list[NewRequest]:
    params = SamplingParams(max_tokens=10)
    return [NewRequest(f"{name}/{i}", [1] * num_prompt_tokens, params, 0.0, priority=priority) for i in range(num)]


@dataclass
class Engine:
    """A desk, and what it has sent."""

    limits: QueueLimits = field(default_factory=QueueLimits)
    max_seqs: int = MAX_SEQS
    now_s: float = 100.0
    sent: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.window = EngineWindow(self.max_seqs, 1000)
        self.desk = AdmissionDesk(
            self.limits, self.window, lambda name, _: self.sent.append(name), self.refusals.append, lambda: self.now_s
        )

    def submit(self, name: str, num: int = 1, **ticket: object) -> Ticket:
        made = Ticket(**ticket)  # type: ignore[arg-type]
        self.desk.submit(name, sequences(name, num), made)
        return made

    def step(self, *names: str, ends: bool = False, elapsed_s: float = 0.1) -> None:
        """One that brings a token to each of these sequences."""
        self.now_s += elapsed_s
        reason = FinishReason.LENGTH if ends else None
        self.desk.observe(StepOutputs([TokenDelta(name, [7], finish_reason=reason) for name in names], self.now_s))
        if ends:
            for name in names:
                self.desk.ended(name.split("/")[0])
        self.desk.release()


def full(**options: object) -> Engine:
    engine = Engine(**options)  # type: ignore[arg-type]
    engine.submit("r0")
    engine.submit("r1")
    return engine


def test_what_fits_passes_straight_through() -> None:
    engine = Engine()
    ticket = engine.submit("a")
    assert engine.sent == ["a"]
    assert (ticket.position, ticket.waiting_for) == (0, None)


def test_who_waits_is_told_where_and_why_and_comes_when_there_is_room() -> None:
    engine = full()
    first, second = engine.submit("a"), engine.submit("b")
    assert (first.position, first.waiting_for) == (1, WaitReason.SLOTS)
    assert second.position == 2
    assert engine.desk.num_waiting == 2
    assert engine.desk.holds("a")
    assert engine.desk.holds_sequence("a/0")
    engine.step("r0/0", ends=True)
    assert engine.sent == ["r0", "r1", "a"]
    assert not engine.desk.holds("a")
    assert not engine.desk.holds_sequence("a/0")


def test_the_sequences_of_a_request_come_together() -> None:
    engine = full()
    engine.submit("pair", 2)
    engine.submit("single")
    engine.step("r0/0", ends=True)
    assert engine.sent == ["r0", "r1"]
    engine.step("r1/0", ends=True)
    assert engine.sent == ["r0", "r1", "pair"]
    engine.step("pair/1")
    engine.desk.withdrawn(["pair/0"])  # a stop string has ended one of the two
    engine.desk.release()
    assert engine.sent[-1] == "single"


def test_an_abort_leaves_the_queue_at_once() -> None:
    engine = full()
    engine.submit("a")
    engine.desk.ended("a")
    assert engine.desk.num_waiting == 0
    engine.step("r0/0", "r1/0", ends=True)
    assert engine.sent == ["r0", "r1"]


def test_another_owner_does_not_wait_behind_a_flood() -> None:
    engine = Engine(max_seqs=16)
    for i in range(200):
        engine.submit(f"a{i}", owner="a")
    engine.submit("b0", owner="b")
    engine.step("a0/0", ends=True)
    assert engine.sent[-1] == "b0"
    engine.step("a1/0", ends=True)
    engine.step("a2/0", ends=True)
    engine.submit("b1", owner="b")
    assert engine.sent[-1] == "b1", "a slot is kept for others"


def test_too_many_are_refused() -> None:
    engine = full(limits=QueueLimits(max_requests=1))
    engine.submit("a")
    with pytest.raises(QueueFullError, match="--max-queued-requests") as caught:
        engine.submit("b")
    assert caught.value.retry_after_s is not None
    assert engine.refusals == ["max_num_queued_reqs"]
    engine.submit("a step of a search that runs", is_continued=True)


def test_too_many_tokens_are_refused() -> None:
    engine = full(limits=QueueLimits(max_tokens=7))
    engine.submit("a")
    with pytest.raises(QueueFullError, match="8 tokens, with at most 7"):
        engine.submit("b")
    assert engine.refusals == ["max_num_queued_tokens"]


def test_retry_after_is_measured() -> None:
    engine = full(limits=QueueLimits(max_requests=1))
    engine.submit("a")  # 4 tokens and 10 expected ones
    for _ in range(20):
        engine.step("r0/0", elapsed_s=1.0)
    with pytest.raises(QueueFullError) as caught:
        engine.submit("b")
    # a token a second, and the 4 of the first one's prompt, which count for less by now
    assert 9 <= (caught.value.retry_after_s or 0) <= 14


def test_a_deadline_that_cannot_be_met_is_refused_at_once() -> None:
    engine = full()
    engine.submit("a")
    for _ in range(20):
        engine.step("r0/0", elapsed_s=1.0)
    engine.submit("patient", deadline_s=engine.now_s + 100)
    with pytest.raises(QueueFullError, match="after the time that it gives"):
        engine.submit("hasty", deadline_s=engine.now_s + 5)
    assert engine.refusals == ["deadline"]


def test_an_idle_engine_refuses_no_deadline() -> None:
    engine = full()
    engine.submit("a")
    for _ in range(20):
        engine.step("r0/0", elapsed_s=1.0)
    engine.step("r0/0", "r1/0", ends=True)
    engine.step("a/0", ends=True)
    engine.submit("hasty", deadline_s=engine.now_s + 0.001)
    assert engine.sent[-1] == "hasty"


def test_an_engine_without_blocks_is_given_nothing() -> None:
    engine = Engine()
    engine.submit("r0")
    engine.desk.observe(StepOutputs([], 0.0, SchedulerStats(num_running=1, num_waiting=1, kv_cache_usage=0.99)))
    assert engine.submit("a").waiting_for == WaitReason.BLOCKS
    engine.desk.observe(StepOutputs([], 0.0, SchedulerStats(num_running=1, kv_cache_usage=0.5)))
    engine.desk.release()
    assert engine.sent == ["r0", "a"]


def test_who_waits_here_is_added_to_who_waits_in_the_engine() -> None:
    stats = SchedulerStats(num_waiting=1, waiting_for=WaitingFor(grammar=2, budget=1))
    engine = full()
    assert engine.desk.add_waiting(stats) is stats
    engine.submit("a", num=2)
    engine.submit("b")
    assert engine.desk.add_waiting(SchedulerStats()).waiting_for == WaitingFor(slots=3)
    added = engine.desk.add_waiting(stats)
    assert (added.num_waiting, added.waiting_for) == (4, WaitingFor(slots=3, grammar=2, budget=1))
    assert stats.waiting_for == WaitingFor(grammar=2, budget=1)


def test_what_is_waited_for_is_what_the_next_one_lacks_now() -> None:
    engine = full()
    engine.submit("a")
    engine.window.lacks_blocks = True
    assert engine.desk.add_waiting(SchedulerStats()).waiting_for == WaitingFor(slots=1)
    engine.desk.withdrawn(["r0/0"])
    assert engine.desk.add_waiting(SchedulerStats()).waiting_for == WaitingFor(blocks=1)


def test_owners_are_not_remembered_without_end() -> None:
    engine = full()
    for i in range(3000):
        engine.submit(f"x{i}", owner=str(i))
        engine.desk.ended(f"x{i}")
    assert len(engine.desk._owners_seen) <= 1025


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["submit", "step", "end", "abort", "restart"]),
        st.integers(1, 4), st.sampled_from("abc"), st.integers(0, 50),
    ),
    max_size=60,
)  # fmt: skip


@given(MOVES)
def test_everything_comes_and_leaves_and_the_engine_is_never_given_too_much(
    moves: list[tuple[str, int, str, int]],
) -> None:
    engine = Engine(max_seqs=4)
    sizes: dict[str, int] = {}
    for i, (move, num, owner, pick) in enumerate(moves):
        running = [name for name in engine.sent if name in sizes]
        if move == "submit":
            sizes[f"r{i}"] = num
            engine.submit(f"r{i}", num, owner=owner)
        elif move == "abort" and sizes:
            name = sorted(sizes)[pick % len(sizes)]
            del sizes[name]
            engine.desk.ended(name)
            engine.desk.release()
        elif move == "restart":
            engine.desk.engine_restarted()
        elif running:
            name = running[pick % len(running)]
            engine.step(*(f"{name}/{k}" for k in range(sizes[name])), ends=move == "end")
            if move == "end":
                del sizes[name]
        inside = [name for name in engine.sent if name in sizes]
        assert engine.window.num_sequences == sum(sizes[name] for name in inside) <= 4
        assert engine.desk.num_waiting == sum(sizes.values()) - engine.window.num_sequences
    while running := [name for name in engine.sent if name in sizes]:
        for name in running:
            engine.step(*(f"{name}/{k}" for k in range(sizes.pop(name))), ends=True)
    assert not sizes, "somebody starved"
    assert engine.desk.num_waiting == engine.window.num_sequences == engine.window.num_prompt_tokens == 0
    assert not engine.desk._inside
    assert not engine.desk._running
    assert not engine.desk._waiting
