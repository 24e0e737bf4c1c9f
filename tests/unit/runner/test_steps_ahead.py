"""Steps that are launched before the ones before them are finished: the same tokens as one after another."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import pytest

from kvik.config import CacheConfig, DeviceConfig, EngineConfig, LoadConfig, ModelConfig, SchedulerConfig
from kvik.modelfile.spec import ModelSpec, RopeSpec
from kvik.runner.cpu_device import CpuDevice
from kvik.runner.model_runner import ModelRunner
from kvik.sampling_params import SamplingParams
from kvik.step import AdmittedRequest, ScheduledRequest, StepPlan, StepResult
from kvik.telemetry.phases import PhaseTimer

SPEC = ModelSpec(
    architecture="LlamaForCausalLM", vocab_size=97, hidden_size=64, intermediate_size=96, num_layers=2, num_heads=4,
    num_kv_heads=2, head_dim=16, max_position_embeddings=128, rms_norm_eps=1e-5, rope=RopeSpec(theta=10000.0),
)  # fmt: skip
PROMPTS = {"a": [3, 14, 15, 92, 65], "b": [35, 89, 79, 32, 38, 46, 26], "c": [43, 38, 32]}
NUM_OUTPUTS = 6


@pytest.fixture(scope="module")
def runner() -> ModelRunner:
    config = EngineConfig(
        model=ModelConfig(model=str(Path("dummy")), spec=SPEC, tokenizer="", served_model_names=("dummy",)),
        cache=CacheConfig(kv_cache_memory_bytes=1 << 20),
        scheduler=SchedulerConfig(max_num_batched_tokens=64, max_num_seqs=4),
        load=LoadConfig(load_format="dummy"),
        device=DeviceConfig(cpu_threads=2),
    )
    runner = ModelRunner(config, CpuDevice(num_threads=2))
    runner.start(PhaseTimer("test"))
    return runner


def admission(ways: dict[str, dict[str, Any]]) -> StepPlan:
    """All of the prompts at once, each in two blocks of its own."""
    admitted = [
        AdmittedRequest(name, list(PROMPTS[name]), len(PROMPTS[name]), SamplingParams(**way), None)
        for name, way in ways.items()
    ]
    shares = [
        ScheduledRequest(r.request_id, 0, len(r.token_ids), [1 + 2 * i, 2 + 2 * i]) for i, r in enumerate(admitted)
    ]
    return StepPlan(admitted, shares, [])


def decoding(names: list[str], step: int, *, ahead: bool) -> StepPlan:
    shares = [ScheduledRequest(n, len(PROMPTS[n]) + step - 1, 1, [], input_in_flight=ahead) for n in names]
    return StepPlan([], shares, [])


def answers(results: list[StepResult]) -> dict[str, list[int]]:
    tokens: dict[str, list[int]] = {}
    for result in results:
        for sampled in result.sampled:
            assert sampled.error is None
            tokens.setdefault(sampled.request_id, []).extend(sampled.token_ids)
    return tokens


def forget(runner: ModelRunner, *names: str) -> None:
    for name in names:
        runner._table.drop(name)


def one_by_one(runner: ModelRunner, ways: dict[str, dict[str, Any]]) -> dict[str, list[int]]:
    results = [runner.execute(admission(ways))]
    results += [runner.execute(decoding(list(ways), n, ahead=False)) for n in range(1, NUM_OUTPUTS)]
    forget(runner, *ways)
    return answers(results)


@pytest.mark.parametrize(
    "way", [{"temperature": 0}, {"temperature": 1.0, "seed": 7}, {"temperature": 1.5, "top_p": 0.9, "seed": 8}]
)
@pytest.mark.parametrize("num_ahead", [1, 3])
def test_tokens_that_stay_where_they_were_chosen(runner: ModelRunner, way: dict[str, Any], num_ahead: int) -> None:
    ways = dict.fromkeys(PROMPTS, way)
    expected = one_by_one(runner, ways)
    under_way = deque([runner.submit(admission(ways))])
    results = []
    for n in range(1, NUM_OUTPUTS):
        under_way.append(runner.submit(decoding(list(ways), n, ahead=True)))
        if len(under_way) > num_ahead:
            results.append(under_way.popleft().result())
    results += [step.result() for step in under_way]
    forget(runner, *ways)
    assert answers(results) == expected


def test_who_needs_its_tokens_has_them_beside_one_who_runs_ahead(runner: ModelRunner) -> None:
    """As the scheduler plans it: "b" has a penalty and is in every other step."""
    ways: dict[str, dict[str, Any]] = {
        "a": {"temperature": 1.0, "seed": 3}, "b": {"temperature": 0, "frequency_penalty": 2.0, "logprobs": 1},
    }  # fmt: skip
    expected = one_by_one(runner, ways)
    results, last = [], runner.submit(admission(ways))
    for n in range(1, NUM_OUTPUTS):
        plan = decoding(["a"], n, ahead=True)
        if n % 2 == 0:
            plan.scheduled += decoding(["b"], n // 2, ahead=False).scheduled
        step = runner.submit(plan)
        results.append(last.result())
        last = step
    results.append(last.result())
    forget(runner, *ways)
    tokens = answers(results)
    assert tokens["a"] == expected["a"]
    assert tokens["b"] == expected["b"][: len(tokens["b"])]
    assert len(tokens["b"]) == 1 + (NUM_OUTPUTS - 1) // 2


def test_a_request_that_is_dropped_under_way_leaves_its_row_to_another(runner: ModelRunner) -> None:
    way = {"temperature": 0}
    expected = one_by_one(runner, dict.fromkeys(PROMPTS, way))
    first = runner.submit(admission({"a": way}))
    second = runner.submit(decoding(["a"], 1, ahead=True))
    third = runner.submit(StepPlan(*_replacing("a", admission({"c": way}))))
    results = [first.result(), second.result(), third.result()]
    fourth = runner.submit(decoding(["c"], 1, ahead=False))
    results.append(fourth.result())
    forget(runner, "c")
    assert answers(results) == {"a": expected["a"][:2], "c": expected["c"][:2]}


def test_who_was_refused_is_refused_in_the_step_that_was_planned_already(runner: ModelRunner) -> None:
    first = runner.submit(admission({"a": {"temperature": 0}, "b": {"temperature": 0, "stop_token_ids": [97]}}))
    second = runner.submit(decoding(["a", "b"], 1, ahead=True))
    errors = [[sampled.error for sampled in step.result().sampled] for step in (first, second)]
    forget(runner, "a")
    assert [error[0] for error in errors] == [None, None]
    assert "stop_token_ids" in (errors[0][1] or "")
    assert "not admitted" in (errors[1][1] or "")


def _replacing(gone: str, plan: StepPlan) -> tuple[list[AdmittedRequest], list[ScheduledRequest], list[str]]:
    return plan.admitted, plan.scheduled, [gone]
