"""A compilation in the background, with passes that only take time on a clock of the test's."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
import torch

from kvik.compilation.contest import ROUNDS
from kvik.layers.batch import ForwardBatch
from kvik.parallel.group import ALONE, Alone, Group
from kvik.runner.compiled_model import BackgroundCompilation

_NO_NUMBERS = torch.zeros(0, dtype=torch.int32)


@dataclass
class Clock:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class FakePass:
    name: str
    step_s: float
    clock: Clock
    num_calls: int = 0

    def forward(self, batch: ForwardBatch) -> torch.Tensor:
        self.num_calls += 1
        self.clock.now_s += self.step_s
        return torch.full((1,), self.step_s)

    def logits(self, hidden: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        assert hidden == self.step_s, "logits were asked of the other pass"
        return hidden


@dataclass(frozen=True)
class Done:
    seconds: float = 1.0
    num_graphs: int = 3
    num_from_cache: int = 0


@dataclass
class FakeFilling:
    """At work for some questions."""

    patience: int = 0
    error: str | None = None

    def reply(self) -> Done | None:
        self.patience -= 1
        if self.patience >= 0:
            return None
        if self.error is not None:
            raise RuntimeError(self.error)
        return Done()


def batch_of(num_requests: int, lora_slots: torch.Tensor | None = None) -> ForwardBatch:
    tokens = torch.zeros(num_requests, dtype=torch.int32)
    empty = _NO_NUMBERS
    return ForwardBatch(tokens, empty, empty, empty, tokens, empty, empty, [], lora_slots=lora_slots)


@dataclass
class World:
    compiled_s: float = 1.0
    filling: FakeFilling | None = field(default_factory=FakeFilling)
    load_error: Exception | None = None
    group: Group = ALONE

    def __post_init__(self) -> None:
        self.clock = Clock()
        self.running = FakePass("running", 2.0, self.clock)
        self.compiled = FakePass("compiled", self.compiled_s, self.clock)
        trials: list[Callable[[], ForwardBatch]] = [lambda: batch_of(1), lambda: batch_of(8)]
        self.background = BackgroundCompilation(
            self.running, self.filling, self._load, trials, clock=self.clock, group=self.group,
            steps_contend=self.group.size == 1,
        )  # fmt: skip

    def _load(self) -> FakePass:
        if self.load_error is not None:
            raise self.load_error
        return self.compiled

    def step(self, batch: ForwardBatch | None = None) -> None:
        hidden = self.background.forward(batch or batch_of(2))
        self.background.logits(hidden, _NO_NUMBERS)

    def let_it_load(self) -> None:
        """Up to the contest, or to the end."""
        while self.background.state in ("filling", "loading"):
            self.background.wait_for_load()
            self.step()


def test_steps_run_as_before_while_the_cache_is_filled() -> None:
    world = World(filling=FakeFilling(patience=5))
    for _ in range(5):
        world.step()
    assert (world.background.state, world.running.num_calls, world.compiled.num_calls) == ("filling", 5, 0)


def test_steps_take_turns_and_the_faster_one_stays(caplog: pytest.LogCaptureFixture) -> None:
    world = World(compiled_s=1.0)
    world.let_it_load()
    with caplog.at_level(logging.INFO):
        for _ in range(2 * ROUNDS):
            world.step()
    assert world.background.state == "settled"
    assert "used from now on" in caplog.text
    assert "1000.00 ms" in caplog.text
    assert "2000.00 ms" in caplog.text
    before = world.running.num_calls
    world.step()
    assert world.running.num_calls == before


def test_what_is_not_faster_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    world = World(compiled_s=2.0)
    world.let_it_load()
    with caplog.at_level(logging.INFO):
        for _ in range(2 * ROUNDS):
            world.step()
    assert "not used" in caplog.text
    before = world.compiled.num_calls
    world.step()
    assert world.compiled.num_calls == before


def test_idle_moments_are_used_for_trials() -> None:
    world = World()
    while world.background.state in ("filling", "loading"):
        assert world.background.use_idle_time()
        world.background.wait_for_load()
    calls = 0
    while world.background.use_idle_time():
        calls += 1
    assert world.background.state == "settled"
    assert calls < 4 * ROUNDS + 2
    assert not world.background.use_idle_time()
    world.step()
    assert world.compiled.num_calls == 2 * ROUNDS + 1


def test_rows_with_adapters_are_computed_as_before() -> None:
    world = World()
    world.let_it_load()
    before = world.running.num_calls
    for _ in range(3):
        world.step(replace(batch_of(2), lora_slots=torch.zeros(2, dtype=torch.int32)))
    assert (world.running.num_calls, world.compiled.num_calls) == (before + 3, 0)


@pytest.mark.parametrize(
    "world",
    [
        lambda: World(filling=FakeFilling(error="no working C++ compiler")),
        lambda: World(load_error=RuntimeError("no working C++ compiler")),
        lambda: World(filling=None, load_error=ValueError("no working C++ compiler")),
    ],
    ids=["in the other process", "in the thread", "of any kind"],
)
def test_a_failure_is_one_warning_and_serving_goes_on(
    world: Callable[[], World], caplog: pytest.LogCaptureFixture
) -> None:
    failing = world()
    failing.let_it_load()
    for _ in range(3):
        failing.step()
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.getMessage() for record in warnings] == [
        "torch.compile failed, so steps are computed as before: no working C++ compiler"
    ]
    assert (failing.background.state, failing.compiled.num_calls) == ("settled", 0)


class Others(Alone):
    """One other worker, who answers in turn."""

    def __init__(self, *answers: bool) -> None:
        self.size = 2
        self.answers = list(answers)

    def any(self, flag: bool) -> bool:
        return self.answers.pop(0) or flag


FAILED, UNREADY, SLOWER = True, True, True
"""What the other one has to say."""


def test_workers_compare_only_when_all_are_ready() -> None:
    waits, compares = (not FAILED, UNREADY), (not FAILED, not UNREADY)
    others = Others(*waits, *waits, *compares * 4 * ROUNDS, not SLOWER)
    world = World(group=others, filling=None)
    world.background.wait_for_load()
    for _ in range(2):
        assert world.background.use_idle_time()
        world.step()
    assert (world.running.num_calls, world.compiled.num_calls) == (2, 0), "steps are nobody's contest here"
    while world.background.use_idle_time():
        pass
    assert (others.answers, world.background.running) == ([], world.compiled)


def test_what_is_slower_for_one_worker_is_used_by_none(caplog: pytest.LogCaptureFixture) -> None:
    world = World(group=Others(*(not FAILED, not UNREADY) * 4 * ROUNDS, SLOWER), filling=None)
    world.background.wait_for_load()
    with caplog.at_level(logging.INFO):
        while world.background.use_idle_time():
            pass
    assert world.background.running is world.running
    assert "The compiled graph is not faster and not used" in caplog.text


def test_where_one_worker_fails_all_go_on_as_before() -> None:
    world = World(group=Others(FAILED), filling=None)
    world.background.wait_for_load()
    assert not world.background.use_idle_time()
    assert world.background.state == "settled"
    failing = World(group=Others(not FAILED), filling=None, load_error=RuntimeError("no compiler"))
    failing.background.wait_for_load()
    for _ in range(3):
        failing.step()
    assert failing.background.state != "settled", "the other one has not heard of it"
    assert not failing.background.use_idle_time()
    assert failing.background.state == "settled"


def test_the_interpreter_is_left_as_it_was() -> None:
    before = sys.getswitchinterval()
    World().let_it_load()
    assert sys.getswitchinterval() == before
