"""The engine without its process: answers, boundaries around requests, utilities."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from engine_steps import deltas_of, request, run, started
from fake_executor import FakeExecutor, fake_token
from tiny_config import tiny_config

from kvik.config.lora import LoraConfig
from kvik.engine.core import EngineCore
from kvik.errors import EngineError
from kvik.messages import FinishReason, LoraRequest, NewRequest
from kvik.sampling_params import SamplingParams
from kvik.telemetry.phases import PhaseTimer


def test_each_step_brings_each_request_a_token() -> None:
    core = started()
    core.add_request(request("a"))
    core.add_request(request("b", 7))
    steps = run(core)
    for request_id, num_tokens in (("a", 5), ("b", 7)):
        deltas = deltas_of(steps, request_id)
        assert [d.new_token_ids for d in deltas] == [[fake_token(request_id, num_tokens + i, 50)] for i in range(3)]
        assert [d.finish_reason for d in deltas] == [None, None, FinishReason.LENGTH]
    assert core.step() is None


def test_statistics_come_with_each_step_or_never() -> None:
    core = started()
    core.add_request(request("a"))
    stats = [step.stats for step in run(core)]
    assert [s.num_running for s in stats if s] == [1, 1, 0]
    assert all(s.step_time_s > 0 for s in stats if s)
    quiet = started(log_stats=False)
    quiet.add_request(request("a"))
    assert [step.stats for step in run(quiet)] == [None] * 3


def test_without_statistics_a_step_that_brings_nothing_says_nothing() -> None:
    core = started(log_stats=False, max_num_batched_tokens=4)
    core.add_request(request("a"))
    assert core.step() is None
    assert core.has_work
    assert core.step() is not None


@pytest.mark.parametrize(("num_tokens", "complaint"), [(0, "at least 1 token"), (64, "it may have 63")])
def test_an_impossible_request_ends_alone(num_tokens: int, complaint: str) -> None:
    core = started()
    core.add_request(request("good"))
    core.add_request(request("bad", num_tokens))
    steps = run(core)
    (last,) = deltas_of(steps, "bad")
    assert last.finish_reason is FinishReason.ERROR
    assert complaint in (last.error or "")
    assert len(deltas_of(steps, "good")) == 3


def test_a_used_id_ends_both_requests() -> None:
    core = started()
    core.add_request(request("a"))
    core.step()
    core.add_request(request("a"))
    (last,) = deltas_of(run(core), "a")
    assert last.finish_reason is FinishReason.ERROR
    assert "'a' is in use" in (last.error or "")


def test_what_nobody_foresaw_in_a_request_ends_it_alone() -> None:
    core = started()
    core.add_request(NewRequest("odd", None, SamplingParams(), 0.0))  # type: ignore[arg-type]
    core.add_request(request("good"))
    steps = run(core)
    assert "TypeError" in (deltas_of(steps, "odd")[0].error or "")
    assert deltas_of(steps, "good")[-1].finish_reason is FinishReason.LENGTH


def test_a_request_that_fails_in_the_executor_ends_alone() -> None:
    core = started(FakeExecutor(failing={"bad": 6}))
    core.add_request(request("bad", max_tokens=9))
    core.add_request(request("good"))
    steps = run(core)
    assert [d.error for d in deltas_of(steps, "bad")] == [None, None, "failed on purpose"]
    assert deltas_of(steps, "good")[-1].finish_reason is FinishReason.LENGTH


def test_an_abort_is_answered() -> None:
    core = started()
    core.add_request(request("a"))
    core.abort(["a", "unknown"])
    assert [d.finish_reason for d in deltas_of(run(core), "a")] == [FinishReason.ABORT]


def test_what_the_executor_raises_is_not_swallowed() -> None:
    executor = FakeExecutor()
    core = started(executor)
    core.add_request(request("a"))
    executor.execute = lambda plan: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    with pytest.raises(ZeroDivisionError):
        core.step()


def test_utilities_by_name() -> None:
    core = started()
    core.add_request(request("a"))
    core.step()
    assert core.utility("get_supported_tasks", []) == ["generate"]
    assert core.utility("get_facts", [])["num_blocks"] == 64
    assert core.utility("describe", [])["running"][0]["request_id"] == "a"
    assert core.utility("reset_prefix_cache", []) is False
    run(core)
    assert core.utility("reset_prefix_cache", []) is True


def test_unknown_utilities_and_wrong_arguments_are_named() -> None:
    core = started()
    with pytest.raises(EngineError, match="no method '__init__'; it has add_lora, check_integrity, describe"):
        core.utility("__init__", [])
    with pytest.raises(EngineError, match=r"get_facts\(\) .*cannot be called with \[1\]: too many"):
        core.utility("get_facts", [1])


def test_before_the_start_there_is_nothing_to_ask() -> None:
    core = EngineCore(tiny_config(), FakeExecutor())
    for ask in (core.step, core.describe, core.get_facts):
        with pytest.raises(EngineError, match="not started"):
            ask()


def with_adapters(executor: FakeExecutor) -> EngineCore:
    core = EngineCore(replace(tiny_config(), lora=LoraConfig()), executor)
    core.start(PhaseTimer("test"))
    return core


def test_an_adapter_is_read_early_or_when_a_request_brings_it() -> None:
    executor = FakeExecutor()
    core = with_adapters(executor)
    assert core.utility("add_lora", ["a", 1, "/a"]) is None
    assert executor.loaded == {0: LoraRequest("a", 1, "/a")}
    core.add_request(msgspec.structs.replace(request("1"), lora=LoraRequest("b", 2, "/b")))
    assert deltas_of(run(core), "1")[-1].finish_reason is FinishReason.LENGTH
    assert executor.loaded == {0: LoraRequest("b", 2, "/b")}
    core.utility("remove_lora", ["b", 2, "/b"])


def test_an_adapter_that_cannot_be_read_takes_no_slot() -> None:
    executor = FakeExecutor()
    executor.unreadable["/b"] = "no such rank"
    core = with_adapters(executor)
    assert core.utility("add_lora", ["b", 2, "/b"]) == "no such rank"
    assert core.utility("add_lora", ["a", 1, "/a"]) is None
    assert executor.loaded == {0: LoraRequest("a", 1, "/a")}


def test_while_all_slots_are_used_an_adapter_is_only_looked_at() -> None:
    executor = FakeExecutor()
    core = with_adapters(executor)
    core.add_request(msgspec.structs.replace(request("1", max_tokens=9), lora=LoraRequest("b", 2, "/b")))
    core.step()
    assert core.utility("add_lora", ["a", 1, "/a"]) is None
    assert executor.loaded == {0: LoraRequest("b", 2, "/b")}
