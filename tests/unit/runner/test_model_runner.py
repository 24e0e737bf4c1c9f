"""The runner with a two-layer model of random weights and the real kernels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kvik.config import CacheConfig, DeviceConfig, EngineConfig, LoadConfig, ModelConfig, SchedulerConfig
from kvik.errors import InsufficientMemoryError
from kvik.messages import EngineFacts
from kvik.modelfile.spec import ModelSpec, RopeSpec
from kvik.runner.cpu_device import CpuDevice
from kvik.runner.model_runner import ModelRunner
from kvik.sampling_params import SamplingParams
from kvik.step import AdmittedRequest, SampledTokens, ScheduledRequest, StepPlan
from kvik.telemetry.phases import PhaseTimer

SPEC = ModelSpec(
    architecture="LlamaForCausalLM",
    vocab_size=97,
    hidden_size=64,
    intermediate_size=96,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    max_position_embeddings=128,
    rms_norm_eps=1e-5,
    rope=RopeSpec(theta=10000.0),
)
PROMPT = [3, 14, 15, 92, 65, 35, 89, 79, 32, 38, 46, 26, 43, 38, 32, 79, 50, 28, 84, 19]


def start(model: dict[str, Any] | None = None, **cache: Any) -> tuple[ModelRunner, EngineFacts, PhaseTimer]:
    config = EngineConfig(
        model=ModelConfig(
            model=str(Path("dummy")), spec=SPEC, tokenizer="", served_model_names=("dummy",), **(model or {})
        ),
        cache=CacheConfig(**({"kv_cache_memory_bytes": 1 << 20} | cache)),
        scheduler=SchedulerConfig(max_num_batched_tokens=64, max_num_seqs=4),
        load=LoadConfig(load_format="dummy"),
        device=DeviceConfig(cpu_threads=2),
    )
    runner, phases = ModelRunner(config, CpuDevice(num_threads=2)), PhaseTimer("test")
    return runner, runner.start(phases), phases


@pytest.fixture(scope="module")
def runner() -> ModelRunner:
    return start()[0]


def admitted(request_id: str, prompt: list[int], **params: Any) -> AdmittedRequest:
    return AdmittedRequest(request_id, prompt, len(prompt), SamplingParams(**({"temperature": 0} | params)), None)


def whole(request: AdmittedRequest, first_block: int) -> StepPlan:
    """A plan that computes all of a new request's tokens."""
    share = ScheduledRequest(request.request_id, 0, len(request.token_ids), [first_block, first_block + 1])
    return StepPlan([request], [share], [])


def drop(runner: ModelRunner, *request_ids: str) -> None:
    runner.execute(StepPlan([admitted("last", [1])], [ScheduledRequest("last", 0, 1, [30])], list(request_ids)))
    runner._table.drop("last")


def test_facts_and_phases_of_a_start() -> None:
    _, facts, phases = start()
    block_bytes = 16 * SPEC.kv_bytes_per_token(2)
    assert facts.num_blocks == (1 << 20) // block_bytes - 1
    assert facts.kv_cache_size_tokens == facts.num_blocks * 16
    assert facts.max_model_len == 128
    assert facts.weights_bytes > 0
    assert [phase.name for phase in phases.phases] == [
        "load weights", "profile", "reserve KV cache", "capture", "warm up",
    ]  # fmt: skip


def test_too_little_memory_names_the_flags() -> None:
    with pytest.raises(InsufficientMemoryError, match="--kv-cache-memory-bytes"):
        start(kv_cache_memory_bytes=16 * SPEC.kv_bytes_per_token(2))


def test_a_prompt_in_chunks_gives_the_bits_of_a_prompt_at_once(runner: ModelRunner) -> None:
    (at_once,) = runner.execute(whole(admitted("whole", PROMPT, logprobs=5), 1)).sampled
    first = StepPlan([admitted("parts", PROMPT, logprobs=5)], [ScheduledRequest("parts", 0, 7, [5])], [])
    assert runner.execute(first).sampled == [SampledTokens("parts", [])]
    (in_parts,) = runner.execute(StepPlan([], [ScheduledRequest("parts", 7, 13, [6])], [])).sampled
    assert in_parts.token_ids == at_once.token_ids
    assert in_parts.logprobs == at_once.logprobs
    drop(runner, "whole", "parts")


def test_neighbours_change_no_bit(runner: ModelRunner) -> None:
    (alone,) = runner.execute(whole(admitted("alone", PROMPT, logprobs=5), 1)).sampled
    crowd = [admitted("x", PROMPT[5:], logprobs=5), admitted("same", PROMPT, logprobs=5), admitted("y", [1, 2])]
    shares = [ScheduledRequest(r.request_id, 0, len(r.token_ids), [5 + 2 * i, 6 + 2 * i]) for i, r in enumerate(crowd)]
    same = runner.execute(StepPlan(crowd, shares, ["alone"])).sampled[1]
    assert (same.token_ids, same.logprobs) == (alone.token_ids, alone.logprobs)
    drop(runner, "x", "same", "y")


def test_decoding_goes_on_from_the_sampled_token(runner: ModelRunner) -> None:
    tokens = list(PROMPT)
    tokens += runner.execute(whole(admitted("a", PROMPT), 1)).sampled[0].token_ids
    for _ in range(5):
        share = ScheduledRequest("a", len(tokens) - 1, 1, [])
        tokens += runner.execute(StepPlan([], [share], [])).sampled[0].token_ids
    again = runner.execute(whole(admitted("b", tokens[:-1]), 5)).sampled[0].token_ids
    assert again == tokens[-1:]
    drop(runner, "a", "b")


def test_a_refused_request_leaves_its_neighbour_alone(runner: ModelRunner) -> None:
    bad, good = admitted("bad", PROMPT, allowed_token_ids=[97]), admitted("good", PROMPT)
    shares = [ScheduledRequest("bad", 0, 20, [1, 2]), ScheduledRequest("good", 0, 20, [3, 4])]
    refused, served = runner.execute(StepPlan([bad, good], shares, [])).sampled
    assert "allowed_token_ids" in (refused.error or "")
    assert refused.token_ids == []
    (alone,) = runner.execute(whole(admitted("alone", PROMPT), 5)).sampled
    assert served.token_ids == alone.token_ids
    drop(runner, "good", "alone", "bad")


def test_prompt_logprobs_come_once_per_position_however_the_prompt_is_cut(runner: ModelRunner) -> None:
    (at_once,) = runner.execute(whole(admitted("whole", PROMPT, prompt_logprobs=2), 1)).sampled
    assert at_once.prompt_logprobs is not None
    assert at_once.prompt_logprobs[0] is None
    assert [p.token_ids[0] for p in at_once.prompt_logprobs[1:] if p] == PROMPT[1:]
    request, parts = admitted("parts", PROMPT, prompt_logprobs=2), []
    for begin, end, blocks in ((0, 1, [5]), (1, 16, []), (16, 20, [6])):
        plan = StepPlan([request] if begin == 0 else [], [ScheduledRequest("parts", begin, end - begin, blocks)], [])
        parts += runner.execute(plan).sampled[0].prompt_logprobs or []
    assert parts == at_once.prompt_logprobs
    drop(runner, "whole", "parts")


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_memory_given_back_comes_back_with_the_same_bits(dtype: str) -> None:
    runner, _, _ = start(kv_cache_memory_bytes=8 << 20, model={"dtype": dtype})
    (before,) = runner.execute(whole(admitted("a", PROMPT, logprobs=5), 1)).sampled
    drop(runner, "a")
    assert runner.release("kv_cache") > 6 << 20
    (without_cache,) = runner.execute(whole(admitted("b", PROMPT, logprobs=5), 1)).sampled
    drop(runner, "b")
    assert runner.release("weights") > 0
    runner.restore("weights")
    (after,) = runner.execute(whole(admitted("c", PROMPT, logprobs=5), 1)).sampled
    drop(runner, "c")
    for again in (without_cache, after):
        assert (again.token_ids, again.logprobs) == (before.token_ids, before.logprobs)
