"""Steps ahead in the engine core: the tokens of each request, its end, and whatever comes between two steps."""

from __future__ import annotations

from dataclasses import replace

import pytest
from engine_steps import deltas_of, request
from fake_executor import FakeExecutor, LateStep, fake_token
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_config import tiny_config

from kvik.config import EngineConfig
from kvik.config.speculative import SpeculativeConfig
from kvik.engine.core import EngineCore
from kvik.engine.overlap import num_steps_ahead
from kvik.messages import EngineFacts, FinishReason, NewRequest, StepOutputs
from kvik.sampling_params import SamplingParams
from kvik.step import StepPlan
from kvik.telemetry.phases import PhaseTimer


class Watched(FakeExecutor):
    """Counts steps under way."""

    def __init__(self) -> None:
        super().__init__(num_blocks=12)
        self.num_under_way = self.most_under_way = 0

    def submit(self, plan: StepPlan) -> LateStep:
        self.num_under_way += 1
        self.most_under_way = max(self.most_under_way, self.num_under_way)
        return WatchedStep(self, plan)

    def release(self, part: str) -> int:
        assert self.num_under_way == 0, "memory is given back under a step"
        return super().release(part)


class WatchedStep(LateStep):
    def result(self):  # type: ignore[no-untyped-def]
        assert isinstance(self.executor, Watched)
        self.executor.num_under_way -= 1
        return super().result()


def overlapping(*, log_stats: bool = True) -> tuple[EngineCore, Watched]:
    config = tiny_config(log_stats=log_stats)
    executor = Watched()
    core = EngineCore(replace(config, scheduler=replace(config.scheduler, async_scheduling=True)), executor)
    core.start(PhaseTimer("test"))
    return core, executor


def run(core: EngineCore) -> list[StepOutputs]:
    steps = []
    while core.has_work:
        outputs = core.step()
        if outputs is not None:
            steps.append(outputs)
    core.utility("check_integrity", [])
    return steps


def tokens_of(steps: list[StepOutputs], request_id: str) -> list[int]:
    return [token for delta in deltas_of(steps, request_id) for token in delta.new_token_ids]


def test_a_step_is_under_way_while_the_next_is_planned() -> None:
    core, executor = overlapping()
    core.add_request(request("a"))
    core.add_request(request("b", 7))
    assert core.step() is None
    assert executor.num_under_way == 1
    steps = run(core)
    for request_id, num_tokens in (("a", 5), ("b", 7)):
        deltas = deltas_of(steps, request_id)
        assert [d.new_token_ids for d in deltas] == [[fake_token(request_id, num_tokens + i, 50)] for i in range(3)]
        assert [d.finish_reason for d in deltas] == [None, None, FinishReason.LENGTH]
    assert executor.most_under_way == 2
    assert executor.num_under_way == 0
    assert executor.num_steps == 3
    assert [s.stats.num_running for s in steps if s.stats] == [2, 2, 0]
    assert all(s.stats.step_time_s > 0 for s in steps if s.stats)
    assert core.utility("reset_prefix_cache", []) is True


def test_a_token_that_ends_a_request_voids_the_one_that_was_computed_too_often() -> None:
    core, executor = overlapping(log_stats=False)
    ending = fake_token("a", 6, 50)
    params = SamplingParams(max_tokens=20, stop_token_ids=[ending])
    core.add_request(NewRequest("a", list(range(5)), params, 0.0))
    steps = run(core)
    expected = [fake_token("a", 5, 50), ending]
    assert expected[0] != ending
    assert tokens_of(steps, "a") == expected
    assert deltas_of(steps, "a")[-1].stop_reason == ending
    assert executor.num_steps == 3


def test_an_abort_under_way_is_the_last_word() -> None:
    core, _ = overlapping()
    core.add_request(request("a"))
    core.add_request(request("b"))
    core.step()
    core.abort(["a"])
    steps = run(core)
    assert [(d.new_token_ids, d.finish_reason) for d in deltas_of(steps, "a")] == [([], FinishReason.ABORT)]
    assert len(tokens_of(steps, "b")) == 3


@pytest.mark.parametrize("level", [1, 2])
def test_sleep_comes_after_the_steps_under_way_and_loses_no_token(level: int) -> None:
    core, executor = overlapping()
    core.add_request(request("a", max_tokens=6))
    core.step()
    core.step()
    core.utility("sleep", [level])
    assert executor.num_under_way == 0
    assert core.has_work, "what the step brought is not told yet"
    early = [core.step()]
    assert not core.has_work
    core.utility("wake_up", [])
    steps = [step for step in [*early, *run(core)] if step is not None]
    assert tokens_of(steps, "a") == [fake_token("a", 5 + i, 50) for i in range(1, 6)]  # step 2 brought the first


def test_a_pause_lets_the_step_under_way_end() -> None:
    core, executor = overlapping()
    core.add_request(request("a"))
    core.step()
    core.utility("pause", [])
    outputs = core.step()
    assert outputs is not None
    assert tokens_of([outputs], "a") == [fake_token("a", 5, 50)]
    assert executor.num_under_way == 0
    assert not core.has_work
    core.utility("resume", [])
    assert len(tokens_of(run(core), "a")) == 2


def test_what_a_step_raises_is_raised_when_its_result_is_fetched() -> None:
    core, executor = overlapping()
    core.add_request(request("a"))
    executor.execute = lambda plan: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    assert core.step() is None
    with pytest.raises(ZeroDivisionError):
        core.step()


def facts(device: str) -> EngineFacts:
    return EngineFacts(device, "fake", 1, 0, 0, num_blocks=8, block_size=4, max_model_len=64)


def test_where_steps_overlap() -> None:
    config = tiny_config()

    def asked(value: bool | None, **other: object) -> EngineConfig:
        return replace(config, scheduler=replace(config.scheduler, async_scheduling=value), **other)  # type: ignore[arg-type]

    assert [num_steps_ahead(asked(None), facts(device)) for device in ("cpu", "cuda")] == [0, 1]
    assert [num_steps_ahead(asked(True), facts(device)) for device in ("cpu", "cuda")] == [1, 1]
    assert [num_steps_ahead(asked(False), facts(device)) for device in ("cpu", "cuda")] == [0, 0]
    drafting = SpeculativeConfig("ngram", 3)
    assert num_steps_ahead(asked(None, speculative=drafting), facts("cuda")) == 0


arrivals = st.lists(
    st.tuples(st.integers(0, 10), st.integers(1, 20), st.integers(1, 12), st.none() | st.integers(0, 8)), max_size=6
)


@settings(max_examples=100, deadline=None)
@given(arrivals=arrivals)
def test_traffic_gets_the_tokens_of_an_engine_without_steps_ahead(
    arrivals: list[tuple[int, int, int, int | None]],
) -> None:
    core, _ = overlapping()
    steps, turn = [], 0
    while core.has_work or turn <= 10:
        for i, (at, num_tokens, max_tokens, patience) in enumerate(arrivals):
            if at == turn:
                core.add_request(request(f"r{i}", num_tokens, max_tokens))
            if patience is not None and at + patience == turn:
                core.abort([f"r{i}"])
        outputs = core.step()
        steps += [] if outputs is None else [outputs]
        turn += 1
        core.utility("check_integrity", [])
    for i, (_, num_tokens, max_tokens, patience) in enumerate(arrivals):
        expected = [fake_token(f"r{i}", num_tokens + n, 50) for n in range(max_tokens)]
        tokens, last = tokens_of(steps, f"r{i}"), deltas_of(steps, f"r{i}")[-1]
        if last.finish_reason is FinishReason.ABORT:
            assert patience is not None
            assert tokens == expected[: len(tokens)]
        else:
            assert (tokens, last.finish_reason) == (expected, FinishReason.LENGTH)
    assert core.scheduler.stats().kv_cache_usage == 0.0
