"""The time budget with a machine whose steps cost what a formula says: no real clock anywhere."""

from __future__ import annotations

import itertools
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvik.config import CacheConfig, SchedulerConfig
from kvik.messages import NewRequest
from kvik.sampling_params import SamplingParams
from kvik.scheduler import Scheduler
from kvik.scheduler.step_time import StepLoad, StepTimeModel
from kvik.scheduler.time_budget import LEAST_STRETCH, PromptTime, TimeBudget
from kvik.step import SampledTokens, ScheduledRequest, StepPlan, StepResult

STEP_S, REQUEST_S, TOKEN_S, PAIR_S = 9e-3, 0.6e-3, 0.4e-3, 0.1e-6
BLOCK_SIZE = 16


def cost_s(load: StepLoad) -> float:
    return STEP_S + REQUEST_S * load.num_requests + TOKEN_S * load.num_tokens + PAIR_S * load.num_pairs


def trained() -> StepTimeModel:
    """A model that knows the machine."""
    model = StepTimeModel()
    for num_streams, num_tokens, first in itertools.product((1, 4, 16, 32), (0, 16, 200, 2000), (0, 1500)):
        load = StepLoad(num_streams + 1, num_streams + num_tokens, num_streams * 300 + num_tokens * first)
        for _ in range(8):
            model.learn(load, cost_s(load))
    return model


class Executor:
    """Knows how many tokens each request has, and nothing else; `FakeExecutor` checks more and takes longer."""

    def __init__(self) -> None:
        self._num_tokens: dict[str, int] = {}

    def execute(self, plan: StepPlan) -> StepResult:
        self._num_tokens |= {admitted.request_id: len(admitted.token_ids) for admitted in plan.admitted}
        return StepResult([SampledTokens(s.request_id, self._sample(s)) for s in plan.scheduled])

    def _sample(self, share: ScheduledRequest) -> list[int]:
        if share.num_computed_tokens + share.num_scheduled_tokens < self._num_tokens[share.request_id]:
            return []
        self._num_tokens[share.request_id] += 1
        return [5]


class Engine:
    """A scheduler, and a clock that each step moves by its cost."""

    def __init__(
        self, max_step_ms: float | None, *, num_blocks: int = 2000, enable_prefix_caching: bool = False,
        long_prefill_token_threshold: int = 0,
    ) -> None:  # fmt: skip
        self.time_s = 0.0
        config = SchedulerConfig(max_step_ms=max_step_ms, long_prefill_token_threshold=long_prefill_token_threshold)
        cache = CacheConfig(block_size=BLOCK_SIZE, enable_prefix_caching=enable_prefix_caching)
        self.scheduler = Scheduler(config, cache, num_blocks, 8192, lambda: self.time_s)
        self.executor = Executor()
        self.num_computed = 0

    def add(self, request_id: str, prompt: int | list[int], max_tokens: int = 50) -> None:
        token_ids = [1000 * ord(request_id[0]) + i for i in range(prompt)] if isinstance(prompt, int) else prompt
        self.scheduler.add(NewRequest(request_id, token_ids, SamplingParams(max_tokens=max_tokens), self.time_s))

    def step(self) -> dict[str, int]:
        """{request id: tokens}"""
        plan = self.scheduler.schedule()
        if plan is None:
            return {}
        self.scheduler.update(plan, self.executor.execute(plan))
        seconds = cost_s(StepLoad.of(plan.scheduled))
        self.time_s += seconds
        self.scheduler.learn_step_time(plan, seconds)
        self.num_computed += plan.num_scheduled_tokens
        return {s.request_id: s.num_scheduled_tokens for s in plan.scheduled}

    def steps(self) -> list[dict[str, int]]:
        """Until nothing is left to do."""
        return list(iter(self.step, {}))

    def open_ids(self) -> set[str]:
        told = self.scheduler.describe()
        return {request["request_id"] for request in told["running"] + told["waiting"]}

    def timed(self) -> tuple[dict[str, int], float]:
        """A step and its milliseconds."""
        started_s = self.time_s
        return self.step(), 1e3 * (self.time_s - started_s)

    def with_streams(self, num_streams: int) -> Engine:
        """So many requests that decode, and a machine that is known a little."""
        for i in range(num_streams):
            self.add(f"{chr(97 + i)}-stream", 100, max_tokens=1000)
        for _ in range(30):
            self.step()
        return self


def decoding_ms(engine: Engine) -> float:
    return engine.timed()[1]


# --- the time that prompts get ----------------------------------------------------------------------


@given(st.floats(0, 2), st.integers(0, 6000), st.integers(1, 3000))
def test_what_is_taken_is_the_most_that_fits(left_s: float, num_computed: int, num_wanted: int) -> None:
    model = trained()
    num_taken = PromptTime(model, 1.0, left_s, min_tokens=0).take(num_computed, num_wanted)
    assert 0 <= num_taken <= num_wanted
    if num_taken:
        assert model.predict_share(num_computed, num_taken) <= left_s + 1e-9
    if num_taken < num_wanted:
        assert model.predict_share(num_computed, num_taken + 1) > left_s - 1e-9


def test_the_first_prompt_always_moves_and_a_cut_ends_the_round() -> None:
    time = PromptTime(trained(), 0.02, left_s=-1.0, min_tokens=16)
    assert time.take(0, 100) == 16
    assert time.is_used_up
    assert time.take(0, 100) == 0


def test_whoever_needs_less_than_the_least_takes_no_more() -> None:
    time = PromptTime(trained(), 0.02, left_s=-1.0, min_tokens=16)
    assert time.take(0, 5) == 5
    assert time.take(0, 5) == 0


@pytest.mark.parametrize(
    ("num_streams", "num_prompts", "stretch"), [(8, 1, 2), (8, 4, 2), (8, 8, 3), (1, 1, 3), (2, 7, 8), (1, 127, 16)]
)
def test_an_adaptive_limit_grows_with_the_crowd(num_streams: int, num_prompts: int, stretch: float) -> None:
    budget = TimeBudget(None, min_tokens=16)
    decoding = [ScheduledRequest(str(i), 100, 1, []) for i in range(num_streams)]
    budget.learn(StepPlan([], decoding, []), 0.02)
    time = budget.for_prompts(decoding, num_prompts)
    assert time is not None
    assert time.limit_s == pytest.approx(0.02 * stretch)
    assert budget.describe()["last_limit_ms"] == pytest.approx(20 * stretch)


@pytest.mark.parametrize("max_step_ms", [0, None, 30])
def test_no_limit_without_streams_without_prompts_or_without_knowledge(max_step_ms: float | None) -> None:
    decoding = [ScheduledRequest("a", 100, 1, [])]
    budget = TimeBudget(max_step_ms, min_tokens=16)
    assert budget.for_prompts(decoding, 1) is None
    budget.learn(StepPlan([], decoding, []), 0.02)
    assert budget.for_prompts([], 1) is None
    assert budget.for_prompts(decoding, 0) is None
    assert (budget.for_prompts(decoding, 1) is None) == (max_step_ms == 0)


# --- whole steps ------------------------------------------------------------------------------------


def test_nobody_decodes_and_a_prompt_takes_the_whole_token_budget() -> None:
    engine = Engine(20)
    engine.add("a", 3000)
    assert engine.step() == {"a": 2048}
    assert engine.step() == {"a": 952}


@pytest.mark.parametrize("num_streams", [2, 8, 24])
def test_a_long_prompt_among_streams_makes_steps_twice_as_long_at_most(num_streams: int) -> None:
    engine = Engine(None).with_streams(num_streams)
    alone_ms = decoding_ms(engine)
    engine.add("z", 3000)
    longest_ms, num_steps = 0.0, 0
    while True:
        shares, step_ms = engine.timed()
        if "z" not in shares or shares["z"] == 1:
            break
        assert len(shares) == num_streams + 1, "a stream was left out"
        longest_ms, num_steps = max(longest_ms, step_ms), num_steps + 1
    assert longest_ms < 1.15 * LEAST_STRETCH * alone_ms
    assert num_steps < 3000 * TOKEN_S * 1e3 / alone_ms * 2


@settings(max_examples=60, deadline=None)
@given(
    max_step_ms=st.integers(15, 200),
    num_streams=st.integers(1, 12),
    prompts=st.lists(st.integers(1, 2500), min_size=1, max_size=4),
)
def test_steps_stay_within_a_fixed_limit_or_move_one_block(
    max_step_ms: int, num_streams: int, prompts: list[int]
) -> None:
    engine = Engine(max_step_ms).with_streams(num_streams)
    alone_ms = decoding_ms(engine)
    for i, length in enumerate(prompts):
        engine.add(f"{chr(110 + i)}-prompt", length, max_tokens=1)
    open_ids = {f"{chr(110 + i)}-prompt" for i in range(len(prompts))}
    least_ms = 1e3 * (REQUEST_S + BLOCK_SIZE * (TOKEN_S + PAIR_S * 2500))
    while open_ids & engine.open_ids():
        shares, step_ms = engine.timed()
        prompt_tokens = sum(n for name, n in shares.items() if name in open_ids)
        assert prompt_tokens > 0, "prompts starve"
        assert sum(name not in open_ids for name in shares) == num_streams
        assert step_ms <= 1.15 * max(max_step_ms, alone_ms + least_ms)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([None, 0, 12.5, 60]),
    st.lists(st.tuples(st.integers(1, 600), st.integers(1, 30), st.integers(0, 20)), min_size=1, max_size=12),
)
def test_every_request_finishes(max_step_ms: float | None, arrivals: list[tuple[int, int, int]]) -> None:
    engine = Engine(max_step_ms, num_blocks=120, enable_prefix_caching=True)
    for step in range(21):
        for i, (length, max_tokens, arrival) in enumerate(arrivals):
            if arrival == step:
                engine.add(f"{chr(97 + i)}", length, max_tokens)
        engine.step()
    num_tokens = sum(length + max_tokens for length, max_tokens, _ in arrivals)
    for _ in range(20 * num_tokens):
        if not engine.scheduler.has_work:
            break
        engine.step()
        engine.scheduler.take_ended()
    assert not engine.scheduler.has_work
    engine.scheduler.check_integrity()


def test_zero_plans_as_if_no_step_had_been_measured() -> None:
    measured, blind = Engine(0), Engine(None)
    blind.scheduler.learn_step_time = lambda plan, seconds: None  # type: ignore[method-assign]
    for engine in (measured, blind):
        for i, length in enumerate((100, 3000, 40, 700)):
            engine.add("abcd"[i], length, max_tokens=20)
    assert measured.steps() == blind.steps()


def test_streams_come_before_prompts_that_are_older_in_the_token_budget() -> None:
    engine = Engine(0, long_prefill_token_threshold=64)
    engine.add("a", 1000)
    engine.add("b", 10)
    assert engine.step() == {"a": 64, "b": 10}
    assert list(engine.step().items()) == [("b", 1), ("a", 64)]


# --- shared prefixes --------------------------------------------------------------------------------


@pytest.mark.parametrize("max_step_ms", [0, None, 25, 60])
@pytest.mark.parametrize("num_streams", [0, 8])
def test_a_crowd_with_one_prefix_computes_it_once(max_step_ms: float | None, num_streams: int) -> None:
    engine = Engine(max_step_ms, enable_prefix_caching=True).with_streams(num_streams)
    prefix = list(range(1504))
    for i in range(8):
        engine.add(f"{chr(112 + i)}-crowd", [*prefix, *([7 + i] * 20)], max_tokens=1)
    engine.num_computed = 0
    num_steps = 0
    while any(name.endswith("crowd") for name in engine.open_ids()):
        engine.step()
        num_steps += 1
    assert engine.num_computed - num_steps * num_streams == 1504 + 8 * 20


def test_the_estimate_can_be_asked_for_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="kvik.scheduler.time_budget"):
        engine = Engine(None).with_streams(8)
        engine.add("z", 3000)
        engine.step()
    told = engine.scheduler.describe()["step_time"]
    assert told["max_step_ms"] == "auto"
    assert told["num_learned_steps"] == 31
    assert told["ms_per_token"] > 0
    assert "foreseen" in caplog.text
