"""What a step takes beside weights and cache."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from kvik.config import CacheConfig, EngineConfig, ModelConfig, SchedulerConfig
from kvik.config.speculative import SpeculativeConfig
from kvik.kernels.paged_attention import allocate_kv_cache
from kvik.modelfile.spec import ModelSpec, RopeSpec
from kvik.plan import kv_block_bytes
from kvik.plan.step_memory import activation_bytes, kv_elements, sampling_bytes
from kvik.runner.kv_memory import kv_cache_torch_dtype

SPEC = ModelSpec(
    architecture="LlamaForCausalLM",
    vocab_size=1000,
    hidden_size=32,
    intermediate_size=48,
    num_layers=2,
    num_heads=2,
    num_kv_heads=1,
    head_dim=16,
    max_position_embeddings=64,
    rms_norm_eps=1e-5,
    rope=RopeSpec(theta=1e4),
)


def config(dtype: str, **scheduler: int) -> EngineConfig:
    model = ModelConfig("m", SPEC, "m", ("m",), dtype=dtype)
    return EngineConfig(model, scheduler=replace(SchedulerConfig(), **scheduler))


@pytest.mark.parametrize(
    ("model", "asked", "wanted"),
    [
        ("bfloat16", "auto", torch.float16), ("float32", "auto", torch.float32),
        ("bfloat16", "float16", torch.float16), ("float32", "float16", torch.float16),
        ("bfloat16", "bfloat16", torch.bfloat16), ("bfloat16", "int8", torch.int8), ("float32", "int8", torch.int8),
    ],
)  # fmt: skip
def test_how_keys_and_values_are_stored(model: str, asked: str, wanted: torch.dtype) -> None:
    engine = replace(config(model), cache=CacheConfig(kv_cache_dtype=asked))
    assert kv_cache_torch_dtype(engine) is wanted


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int8])
def test_the_plan_counts_what_the_tensors_take(dtype: torch.dtype) -> None:
    k, v = allocate_kv_cache(5, SPEC.num_kv_heads, SPEC.head_dim, 32, dtype)
    elements = kv_elements(str(dtype).removeprefix("torch."))
    assert SPEC.num_layers * (k.nbytes + v.nbytes) == 5 * kv_block_bytes(SPEC, 32, elements)


def test_activations_are_float32_whatever_the_weights_are() -> None:
    assert activation_bytes(config("bfloat16")) == activation_bytes(config("float32"))


def test_activations_grow_with_tokens_and_logits_with_requests() -> None:
    """The MLP is the widest here: 4 x 32 and 3 x 48 elements of a token, and a quarter for gaps."""
    per_token, per_request = 4 * (4 * 32 + 3 * 48), 4 * 2 * 1000
    sizes = {"max_num_batched_tokens": 100, "max_num_seqs": 7}
    assert activation_bytes(config("bfloat16", **sizes)) == 125 * per_token + 7 * per_request


def test_drafts_have_logits_too() -> None:
    plain = config("bfloat16", max_num_seqs=7)
    drafting = replace(plain, speculative=SpeculativeConfig("ngram", 5))
    assert activation_bytes(drafting) - activation_bytes(plain) == 64 * 4 * 2 * 1000


def test_sampling_on_a_gpu_has_counts_and_a_copy_of_the_logits() -> None:
    engine = config("bfloat16", max_num_seqs=7)
    assert sampling_bytes(engine) == 7 * 4 * 2 * 1000
    more = replace(engine, scheduler=replace(engine.scheduler, max_num_seqs=8))
    a_request = activation_bytes(more, kind="cuda") - activation_bytes(engine, kind="cuda")
    assert a_request == 4 * 3 * 1000  # the copy of the logits is one of the two that a CPU has too
