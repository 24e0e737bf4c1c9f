"""Drafts through the whole runner, with a two-layer model of random weights: right, wrong, and half right ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvik.config import CacheConfig, EngineConfig, LoadConfig, ModelConfig, SchedulerConfig
from kvik.config.speculative import SpeculativeConfig
from kvik.messages import TokenLogprobs
from kvik.modelfile.spec import ModelSpec, RopeSpec
from kvik.runner.cpu_device import CpuDevice
from kvik.runner.model_runner import ModelRunner
from kvik.sampling_params import SamplingParams
from kvik.step import AdmittedRequest, SampledTokens, ScheduledRequest, StepPlan
from kvik.telemetry.phases import PhaseTimer

VOCAB_SIZE = 29
SPEC = ModelSpec(
    architecture="LlamaForCausalLM", vocab_size=VOCAB_SIZE, hidden_size=32, intermediate_size=48, num_layers=2,
    num_heads=2, num_kv_heads=1, head_dim=16, max_position_embeddings=64, rms_norm_eps=1e-5, rope=RopeSpec(10000.0),
)  # fmt: skip
PROMPT = [3, 14, 15, 9, 2, 6, 5, 3, 5, 8, 9, 7]
NUM_OUTPUTS = 10
WAYS: list[dict[str, Any]] = [
    {"temperature": 0},
    {"temperature": 0, "logprobs": 3},
    {"temperature": 1.0, "seed": 7},
    {"temperature": 1.5, "top_p": 0.9, "top_k": 20, "seed": 8, "logprobs": 2},
    {"temperature": 0, "frequency_penalty": 1.5, "repetition_penalty": 1.3, "logprobs": 2},
    {"temperature": 1.0, "seed": 9, "presence_penalty": 2.0, "min_tokens": 5, "logprobs": 0},
    {"temperature": 1.2, "seed": 4, "bad_words_token_ids": [[3, 4], [5]], "logit_bias": {7: 3.0}},
]


@pytest.fixture(scope="module")
def runner() -> ModelRunner:
    config = EngineConfig(
        model=ModelConfig(model=str(Path("dummy")), spec=SPEC, tokenizer="", served_model_names=("dummy",)),
        cache=CacheConfig(kv_cache_memory_bytes=1 << 20),
        scheduler=SchedulerConfig(max_num_batched_tokens=128, max_num_seqs=8),
        speculative=SpeculativeConfig("ngram", 5),
        load=LoadConfig(load_format="dummy"),
    )
    runner = ModelRunner(config, CpuDevice(num_threads=2))
    runner.start(PhaseTimer("test"))
    return runner


class Writer:
    """One request: its tokens and logprobs so far."""

    def __init__(self, request_id: str, first_block: int, params: dict[str, Any]) -> None:
        self.admitted = AdmittedRequest(request_id, list(PROMPT), len(PROMPT), SamplingParams(**params), eos_token_id=1)
        self.blocks = list(range(first_block, first_block + 3))
        self.token_ids = list(PROMPT)
        self.logprobs: list[TokenLogprobs] = []

    def prompt_share(self) -> ScheduledRequest:
        return ScheduledRequest(self.admitted.request_id, 0, len(PROMPT), self.blocks)

    def share(self, draft: list[int]) -> ScheduledRequest:
        return ScheduledRequest(self.admitted.request_id, len(self.token_ids) - 1, 1 + len(draft), [], draft)

    def take(self, sampled: SampledTokens, draft: list[int]) -> None:
        assert sampled.error is None
        assert sampled.token_ids[:-1] == draft[: len(sampled.token_ids) - 1]
        self.token_ids += sampled.token_ids
        self.logprobs += sampled.logprobs or []

    @property
    def num_outputs(self) -> int:
        return len(self.token_ids) - len(PROMPT)


def write_all(runner: ModelRunner, drafts_of: Callable[[int, int], list[int]]) -> list[Writer]:
    """All ways in one batch, until each has its outputs; `drafts_of(index, num_outputs)` are tried at each step."""
    writers = [Writer(f"w{i}", 1 + 3 * i, way) for i, way in enumerate(WAYS)]
    plan = StepPlan([w.admitted for w in writers], [w.prompt_share() for w in writers], [])
    for writer, sampled in zip(writers, runner.execute(plan).sampled, strict=True):
        writer.take(sampled, [])
    while active := [(i, w) for i, w in enumerate(writers) if w.num_outputs < NUM_OUTPUTS]:
        drafts = [drafts_of(i, w.num_outputs)[: NUM_OUTPUTS - w.num_outputs - 1] for i, w in active]
        plan = StepPlan([], [w.share(d) for (_, w), d in zip(active, drafts, strict=True)], [])
        for (_, writer), draft, sampled in zip(active, drafts, runner.execute(plan).sampled, strict=True):
            writer.take(sampled, draft)
    for writer in writers:
        runner._table.drop(writer.admitted.request_id)
    return writers


@pytest.fixture(scope="module")
def plain(runner: ModelRunner) -> list[Writer]:
    return write_all(runner, lambda index, num_outputs: [])


def test_right_drafts_are_all_kept(runner: ModelRunner, plain: list[Writer]) -> None:
    writers = [Writer(f"r{i}", 1 + 3 * i, way) for i, way in enumerate(WAYS)]
    plan = StepPlan([w.admitted for w in writers], [w.prompt_share() for w in writers], [])
    for writer, sampled in zip(writers, runner.execute(plan).sampled, strict=True):
        writer.take(sampled, [])
    drafts = [w.token_ids[len(PROMPT) + 1 : -1] for w in plain]
    plan = StepPlan([], [w.share(d) for w, d in zip(writers, drafts, strict=True)], [])
    for writer, draft, sampled in zip(writers, drafts, runner.execute(plan).sampled, strict=True):
        writer.take(sampled, draft)
        runner._table.drop(writer.admitted.request_id)
    assert [w.token_ids for w in writers] == [w.token_ids for w in plain]
    assert [w.logprobs for w in writers] == [w.logprobs for w in plain]


tries = st.lists(
    st.tuples(st.integers(0, 5), st.lists(st.integers(0, VOCAB_SIZE - 1), max_size=3)), min_size=1, max_size=12
)


@settings(max_examples=40, deadline=None)
@given(tries=tries)
def test_whatever_is_drafted_tokens_and_logprobs_are_the_same_bits(
    runner: ModelRunner, plain: list[Writer], tries: list[tuple[int, list[int]]]
) -> None:
    """Drafts that are right for some tokens, then anything."""

    def drafts_of(index: int, num_outputs: int) -> list[int]:
        num_right, anything = tries[(5 * index + num_outputs) % len(tries)]
        first = len(PROMPT) + num_outputs
        return plain[index].token_ids[first : first + num_right] + anything

    writers = write_all(runner, drafts_of)
    assert [w.token_ids for w in writers] == [w.token_ids for w in plain]
    assert [w.logprobs for w in writers] == [w.logprobs for w in plain]
