"""Memory arithmetic against numbers worked out by hand."""

from __future__ import annotations

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvik.config import CacheConfig
from kvik.errors import InsufficientMemoryError
from kvik.modelfile.spec import ModelSpec, RopeSpec
from kvik.plan import GIB, KVElements, MemoryBudget, kv_block_bytes, plan_kv_cache
from kvik.plan.kv_cache import in_gib

LLAMA_8B = ModelSpec(
    architecture="LlamaForCausalLM",
    vocab_size=128256,
    hidden_size=4096,
    intermediate_size=14336,
    num_layers=32,
    num_heads=32,
    num_kv_heads=8,
    head_dim=128,
    max_position_embeddings=131072,
    rms_norm_eps=1e-5,
    rope=RopeSpec(theta=500000.0),
)
BF16 = 2
IN_BF16 = KVElements(BF16)
IN_INT8 = KVElements(dtype_bytes=1, scale_bytes=4)
L4 = MemoryBudget(
    total_bytes=24 * GIB,
    utilization=0.90,
    weights_bytes=int(14.99 * GIB),
    activations_bytes=int(0.97 * GIB),
    graphs_bytes=int(0.69 * GIB),
)


def test_llama_8b_on_24_gib():
    plan = plan_kv_cache(LLAMA_8B, CacheConfig(gpu_memory_utilization=0.90), L4, IN_BF16, 10_000)
    assert LLAMA_8B.kv_bytes_per_token(BF16) == 131_072
    assert plan.block_bytes == 2 * 1024**2
    assert f"{L4.available_bytes / GIB:.2f}" == "4.95"
    assert plan.num_blocks == 2_533
    assert plan.num_tokens == 40_528
    assert f"{plan.max_concurrency:.2f}x" == "4.05x"


def test_leaving_out_the_activations_would_give_a_gib_more():
    assert f"{dataclasses.replace(L4, activations_bytes=0).available_bytes / GIB:.2f}" == "5.92"


def test_scales_take_their_place():
    """2 x 32 layers x 8 heads x (128 + 4) bytes a token: 1.94 times the tokens of bf16."""
    plan = plan_kv_cache(LLAMA_8B, CacheConfig(gpu_memory_utilization=0.90), L4, IN_INT8, 10_000)
    assert plan.block_bytes == 16 * 67_584
    assert plan.num_blocks == 4_914
    assert plan.pool_bytes <= L4.available_bytes < plan.pool_bytes + plan.block_bytes


def test_explicit_cache_size_replaces_the_budget():
    spec = dataclasses.replace(LLAMA_8B, num_layers=16, head_dim=64)
    plan = plan_kv_cache(spec, CacheConfig(kv_cache_memory_bytes=4 * GIB), L4, IN_BF16, 4096)
    assert spec.kv_bytes_per_token(BF16) == 32 * 1024
    assert plan.num_tokens == 131_072 - 16  # all but the null block
    assert f"{plan.max_concurrency:.2f}x" == "32.00x"
    assert plan.pool_bytes == 4 * GIB


def test_override_counts_the_null_block():
    plan = plan_kv_cache(LLAMA_8B, CacheConfig(num_blocks_override=9), L4, IN_BF16, 128)
    assert (plan.num_blocks, plan.num_tokens) == (8, 128)


def test_auto_context_is_what_fits_up_to_the_models_own():
    assert plan_kv_cache(LLAMA_8B, CacheConfig(), L4, IN_BF16, None).max_model_len == 40_528
    roomy = CacheConfig(kv_cache_memory_bytes=64 * GIB)
    assert plan_kv_cache(LLAMA_8B, roomy, L4, IN_BF16, None).max_model_len == 131_072


@pytest.mark.parametrize(
    ("cache", "budget", "max_model_len", "origin"),
    [
        (CacheConfig(kv_cache_memory_bytes=GIB), L4, 10_000, "--kv-cache-memory-bytes gives 1.00 GiB: enough for 8176"),
        (CacheConfig(num_blocks_override=5), L4, 10_000, "--num-gpu-blocks-override gives 5 blocks, one of them the"),
        (CacheConfig(), dataclasses.replace(L4, weights_bytes=23 * GIB), 10_000, "less than nothing: -3.06 GiB are"),
    ],
)
def test_too_little_memory_says_where_it_comes_from(cache, budget, max_model_len, origin):
    with pytest.raises(InsufficientMemoryError, match=re.escape(origin)):
        plan_kv_cache(LLAMA_8B, cache, budget, IN_BF16, max_model_len)


def test_too_long_says_needed_available_and_what_fits():
    with pytest.raises(InsufficientMemoryError) as caught:
        plan_kv_cache(LLAMA_8B, CacheConfig(), L4, IN_BF16, 100_000)
    text = str(caught.value)
    assert "needs 12.21 GiB" in text
    assert "4.95 GiB are available (24.00 GiB x 0.90, less 14.99 GiB of weights" in text
    assert text.endswith(": enough for 40528 tokens")


@given(num_kib=st.integers(1, 10**8), max_model_len=st.integers(1, 200_000), block_size=st.sampled_from([1, 16, 128]))
def test_a_plan_takes_all_whole_blocks_or_is_refused(num_kib, max_model_len, block_size):
    cache = CacheConfig(block_size=block_size, kv_cache_memory_bytes=num_kib * 1024)
    block_bytes = kv_block_bytes(LLAMA_8B, block_size, IN_BF16)
    num_tokens = (num_kib * 1024 // block_bytes - 1) * block_size
    if num_tokens < max_model_len:
        with pytest.raises(InsufficientMemoryError):
            plan_kv_cache(LLAMA_8B, cache, L4, IN_BF16, max_model_len)
        return
    plan = plan_kv_cache(LLAMA_8B, cache, L4, IN_BF16, max_model_len)
    assert (plan.num_tokens, plan.block_bytes) == (num_tokens, block_bytes)
    assert plan.pool_bytes <= num_kib * 1024 < plan.pool_bytes + block_bytes


@pytest.mark.parametrize(
    ("num_bytes", "text"), [(0, "0.00 MiB"), (1024**2, "1.00 MiB"), (-GIB // 2, "-0.50 GiB"), (3 * GIB, "3.00 GiB")]
)
def test_small_sizes_are_told_in_mib(num_bytes, text):
    assert in_gib(num_bytes) == text
