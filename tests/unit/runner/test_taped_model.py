"""The taped model against the model itself, bit for bit, for each architecture and for batches of every mix."""

from __future__ import annotations

import logging
import random
from dataclasses import replace
from typing import Any

import pytest
import torch

from kvik.config import EngineConfig, ModelConfig, SchedulerConfig
from kvik.config.lora import LoraConfig
from kvik.kernels.batch_rows import BatchArrays
from kvik.kernels.paged_attention import allocate_kv_cache
from kvik.kernels.runtime import native
from kvik.kernels.tape import Counts
from kvik.layers.batch import ForwardBatch, LayerKV
from kvik.layers.lora import LoraFactors
from kvik.modelfile.spec import ModelSpec, RopeSpec
from kvik.models import ARCHITECTURES, Model, build_model
from kvik.plan.step_memory import activation_bytes
from kvik.runner.batch_builder import BatchBuilder
from kvik.runner.request_table import RequestTable
from kvik.runner.taped_model import TapedModel, tape_model
from kvik.sampling_params import SamplingParams
from kvik.step import AdmittedRequest, ScheduledRequest, StepPlan

pytestmark = pytest.mark.skipif(native is None, reason="no native build")

BLOCK, MAX_TOKENS, MAX_REQUESTS, MAX_LEN = 16, 48, 4, 64
LLAMA = ModelSpec(
    architecture="LlamaForCausalLM", vocab_size=97, hidden_size=64, intermediate_size=96, num_layers=3, num_heads=4,
    num_kv_heads=2, head_dim=16, max_position_embeddings=MAX_LEN, rms_norm_eps=1e-5, rope=RopeSpec(theta=10000.0),
)  # fmt: skip
SPECS = {
    "LlamaForCausalLM": replace(LLAMA, tie_word_embeddings=True, mlp_bias=True, attention_output_bias=True),
    "MistralForCausalLM": replace(LLAMA, sliding_windows=(7, 7, 7)),
    "Qwen2ForCausalLM": replace(LLAMA, attention_bias=True, num_kv_heads=4),
    "Qwen3ForCausalLM": replace(LLAMA, head_dim=32, num_kv_heads=1),
    "Gemma3ForCausalLM": replace(
        LLAMA, activation="gelu_tanh", tie_word_embeddings=True, sliding_windows=(9, 0, 9), head_dim=32
    ),
}


class Twins:
    """One model with two caches: by tape through the runner's builder, and called plainly with the same batches."""

    def __init__(self, spec: ModelSpec, dtype: torch.dtype = torch.bfloat16, *, with_lora: bool = False) -> None:
        self.model = build_model(spec, dtype)
        self.model.load_dummy(seed=3)
        if with_lora:
            _fill_slots(self.model)
        most = Counts(MAX_TOKENS, MAX_REQUESTS, MAX_LEN // BLOCK)
        self.arrays = BatchArrays(*most, MAX_REQUESTS)
        self.kv, self.plain_kv = self._cache(spec), self._cache(spec)
        self.table = RequestTable(MAX_REQUESTS, MAX_LEN, BLOCK, spec.vocab_size)
        self.builder = BatchBuilder(self.table, BLOCK, self.kv, self.arrays)
        self.taped = tape_model(self.model, self.kv, self.arrays, most, 1 << 22, with_lora=with_lora)

    @staticmethod
    def _cache(spec: ModelSpec) -> list[LayerKV]:
        shape = (MAX_REQUESTS * MAX_LEN // BLOCK + 1, spec.num_kv_heads, spec.head_dim, BLOCK, torch.float16)
        return [LayerKV(*allocate_kv_cache(*shape)) for _ in range(spec.num_layers)]

    def step(self, plan: StepPlan) -> None:
        """Compute a plan both ways and compare hidden states, logits and caches."""
        for request in plan.admitted:
            self.table.admit(request)
        batch, _ = self.builder.build(plan)
        hidden = self.taped.forward(batch)
        plain = ForwardBatch(**{name: _copy(getattr(batch, name)) for name in batch.__slots__ if name != "kv"}, kv=[])
        plain.kv = self.plain_kv
        plain_hidden = self.model.forward(plain)
        assert torch.equal(hidden[: len(plain_hidden)], plain_hidden)
        if len(batch.logits_rows):
            plain_logits = self.model.logits(plain_hidden, plain.logits_rows)
            assert torch.equal(self.taped.logits(hidden, batch.logits_rows), plain_logits)
        for kv, plain_kv in zip(self.kv, self.plain_kv, strict=True):
            assert torch.equal(kv.k, plain_kv.k)
            assert torch.equal(kv.v, plain_kv.v)


def _copy(tensor: torch.Tensor | None) -> torch.Tensor | None:
    return None if tensor is None else tensor.clone()


def _fill_slots(model: Model) -> None:
    """Two adapters of random numbers, the second of them for attention only."""
    generator = torch.Generator().manual_seed(7)
    model.reserve_adapters(2, 16, torch.bfloat16)
    for target in model.lora_targets:
        for slot in range(2):
            factors = {
                name: LoraFactors(
                    torch.randn(4 + slot, target.num_inputs, generator=generator),
                    torch.randn(size, 4 + slot, generator=generator),
                    0.1,
                )
                for name, size in zip(target.names, target.sizes.values(), strict=True)
                if slot == 0 or "self_attn" in name
            }
            target.write(slot, factors)


def admitted(name: str, length: int, seed: int) -> AdmittedRequest:
    chance = random.Random(seed)
    tokens = [chance.randrange(LLAMA.vocab_size) for _ in range(length)]
    return AdmittedRequest(name, tokens, length, SamplingParams(temperature=0), None)


def mixed_steps() -> list[StepPlan]:
    """Prompts in chunks beside decodes, from one row to the whole budget, up and down in requests and blocks."""
    requests = [admitted(str(i), 60, i) for i in range(MAX_REQUESTS)]
    blocks = [list(range(1 + 4 * i, 5 + 4 * i)) for i in range(MAX_REQUESTS)]
    steps = [{0: 5}, {0: 1, 1: 20}, {0: 1, 1: 1, 2: 45, 3: 1}, {3: 1}, {0: 1, 1: 17, 2: 1, 3: 1}, {1: 1}, {3: 48}]
    steps += [{0: 1}, {2: 14, 1: 21, 3: 9}, {0: 1}]
    done = [0] * MAX_REQUESTS
    plans = []
    for step in steps:
        plan = StepPlan([requests[i] for i in step if done[i] == 0], [], [])
        for i, count in step.items():
            plan.scheduled.append(ScheduledRequest(str(i), done[i], count, [] if done[i] else blocks[i]))
            done[i] += count
        plans.append(plan)
    assert max(done) == 60  # so that logits are asked for too
    return plans


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_replays_give_the_bits_of_the_model(architecture: str) -> None:
    twins = Twins(replace(SPECS[architecture], architecture=architecture))
    assert isinstance(twins.taped, TapedModel)
    for plan in mixed_steps():
        twins.step(plan)


@pytest.mark.parametrize("architecture", ["LlamaForCausalLM", "Gemma3ForCausalLM"])
def test_adapters_are_replayed_too(architecture: str) -> None:
    """Requests 0 and 3 have one, 1 another, 2 none; so some steps have adapters and some have not."""
    twins = Twins(replace(SPECS[architecture], architecture=architecture), with_lora=True)
    assert isinstance(twins.taped, TapedModel)
    for plan in mixed_steps():
        for request in plan.admitted:
            request.lora_slot = (0, 1, -1, 0)[int(request.request_id)]
        twins.step(plan)


def test_who_has_no_adapter_gets_the_bits_of_a_model_without_any() -> None:
    plain, adapted = Twins(LLAMA), Twins(LLAMA, with_lora=True)
    request, other = admitted("a", 20, 0), admitted("b", 9, 1)
    shares = [ScheduledRequest("b", 0, 9, [3]), ScheduledRequest("a", 0, 20, [1, 2])]
    hidden = []
    for twins, slot in ((plain, -1), (adapted, 1)):
        other.lora_slot = slot
        for one in (request, other):
            twins.table.admit(one)
        batch, _ = twins.builder.build(StepPlan([other, request], shares, []))
        hidden.append(twins.taped.forward(batch)[:29].clone())
    assert torch.equal(hidden[0][9:], hidden[1][9:])
    assert not torch.equal(hidden[0][:9], hidden[1][:9])


def test_fp32_weights_too() -> None:
    twins = Twins(LLAMA, torch.float32)
    assert isinstance(twins.taped, TapedModel)
    for plan in mixed_steps():
        twins.step(plan)


def test_a_batch_that_lies_elsewhere_is_computed_all_the_same() -> None:
    twins = Twins(LLAMA)
    batch, _ = _built(twins)
    elsewhere = ForwardBatch(**{n: _copy(getattr(batch, n)) for n in batch.__slots__ if n != "kv"}, kv=twins.kv)
    hidden = twins.taped.forward(elsewhere)
    assert len(hidden) == 20
    assert torch.equal(twins.taped.forward(batch)[:20], hidden)
    rows = torch.tensor([3, 19], dtype=torch.int32)
    assert torch.equal(twins.taped.logits(hidden, rows)[1:], twins.taped.logits(hidden, batch.logits_rows))


def _built(twins: Twins) -> Any:
    request = admitted("a", 20, 0)
    twins.table.admit(request)
    return twins.builder.build(StepPlan([request], [ScheduledRequest("a", 0, 20, [1, 2])], []))


def test_a_token_outside_the_vocabulary_stops_the_replay() -> None:
    twins = Twins(LLAMA)
    batch, _ = _built(twins)
    twins.arrays.token_ids[7] = LLAMA.vocab_size
    with pytest.raises(IndexError, match="embedding: the id of row 7"):
        twins.taped.forward(batch)


def test_a_model_that_computes_with_plain_torch_runs_without_a_tape(caplog: pytest.LogCaptureFixture) -> None:
    """The native attention takes no heads of 24."""
    with caplog.at_level(logging.WARNING, logger="kvik"):
        twins = Twins(replace(LLAMA, head_dim=24))
    assert twins.taped is twins.model
    assert "cannot be recorded" in caplog.text
    for plan in mixed_steps():
        twins.step(plan)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("inner", [16, 256])
def test_the_memory_plan_has_room_for_the_activations(architecture: str, inner: int) -> None:
    spec = replace(SPECS[architecture], architecture=architecture, intermediate_size=inner)
    model = ModelConfig("m", spec, "m", ("m",))
    sizes = SchedulerConfig(max_num_batched_tokens=MAX_TOKENS, max_num_seqs=MAX_REQUESTS)
    for lora in (None, LoraConfig(max_cpu_loras=2)):
        twins = Twins(spec, with_lora=lora is not None)
        assert isinstance(twins.taped, TapedModel)
        assert twins.taped.activation_bytes <= activation_bytes(EngineConfig(model, scheduler=sizes, lora=lora))
