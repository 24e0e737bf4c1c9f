"""How much memory keys and values get on this machine, and taking it. The arithmetic itself is `kvik.plan`'s."""

from __future__ import annotations

import torch

from kvik.config import EngineConfig
from kvik.kernels import runtime
from kvik.kernels.paged_attention import allocate_kv_cache, scale_bytes
from kvik.layers.batch import LayerKV
from kvik.messages import EngineFacts
from kvik.plan import GIB, NUM_NULL_BLOCKS, KVCachePlan, KVElements, MemoryBudget, available_kv_bytes, plan_kv_cache
from kvik.platforms import cpu
from kvik.telemetry.log import get_logger

logger = get_logger(__name__)

_ACTIVATION_BYTES = torch.float32.itemsize


def plan_kv_memory(config: EngineConfig, weights_bytes: int, adapters_bytes: int = 0) -> EngineFacts:
    """Settle the number of blocks and the context length, and log them. The weights are in memory already; the slots of
    adapters take `adapters_bytes` when they are written.

    Raises `InsufficientMemoryError` when one request of `max_model_len` tokens does not fit.
    """
    budget = cpu_budget(config, weights_bytes, adapters_bytes)
    plan = plan_kv_cache(
        config.model.spec, config.cache, budget, kv_elements(kv_cache_dtype(config)), config.model.max_model_len
    )
    facts = EngineFacts(
        device="cpu",
        kernels=runtime.isa(),
        num_threads=runtime.num_threads(),
        weights_bytes=weights_bytes,
        kv_cache_bytes=plan.pool_bytes,
        num_blocks=plan.num_blocks,
        block_size=plan.block_size,
        max_model_len=plan.max_model_len,
        activations_bytes=activation_bytes(config),
        adapters_bytes=adapters_bytes,
    )
    _log(config, budget, plan)
    return facts


def kv_cache_dtype(config: EngineConfig) -> torch.dtype:
    """How keys and values are stored: "auto" is fp16 for a bf16 model, as many bytes and 11 significant bits, not 8."""
    if config.cache.kv_cache_dtype == "auto":
        return torch.float32 if config.model.dtype == "float32" else torch.float16
    dtype: torch.dtype = getattr(torch, config.cache.kv_cache_dtype)
    return dtype


def kv_elements(dtype: torch.dtype) -> KVElements:
    return KVElements(dtype.itemsize, scale_bytes(dtype))


def cpu_budget(config: EngineConfig, weights_bytes: int, adapters_bytes: int = 0) -> MemoryBudget:
    """The machine's memory as far as other processes leave it, less what this one holds and will need in a step."""
    resident = cpu.resident_memory_bytes()
    framework_bytes = max(0, resident - weights_bytes)
    return MemoryBudget(
        total_bytes=min(cpu.total_memory_bytes(), cpu.available_memory_bytes() + resident),
        utilization=config.cache.gpu_memory_utilization,
        weights_bytes=weights_bytes,
        activations_bytes=framework_bytes + activation_bytes(config),
        adapters_bytes=adapters_bytes,
    )


def activation_bytes(config: EngineConfig) -> int:
    """Most bytes of intermediate tensors that are alive at once in a step that uses the whole token budget.

    All of them are fp32, whatever the model's dtype. The widest moment of a layer is the gated MLP: residual, what the
    layer before added to it, attention's output, its norm, gate and up, their product; or attention: the first two, a
    norm, q, k and v, q rotated, the output. At the end the logits of every request and draft stand beside the sampler's
    copy.
    """
    spec, scheduler = config.model.spec, config.scheduler
    mlp = 4 * spec.hidden_size + 3 * spec.intermediate_size
    attention = 3 * spec.hidden_size + (3 * spec.num_heads + 2 * spec.num_kv_heads) * spec.head_dim
    layer_elements = scheduler.max_num_batched_tokens * max(mlp, attention) * 5 // 4  # an arena has gaps
    logits_elements = 2 * max_logits_rows(config) * spec.vocab_size
    if config.lora is not None:  # steps with adapters: x A^T of q, k and v; a result and logits of their own
        rank = -(-config.lora.max_lora_rank // 16) * 16
        layer_elements += scheduler.max_num_batched_tokens * (3 * rank + spec.hidden_size)
        logits_elements += max_logits_rows(config) * spec.vocab_size
    return _ACTIVATION_BYTES * (layer_elements + logits_elements)


def max_logits_rows(config: EngineConfig) -> int:
    """Positions of one step whose logits may be wanted: one of each request, and those behind drafts."""
    num_drafts = config.speculative.max_drafts_per_step if config.speculative is not None else 0
    return config.scheduler.max_num_seqs + num_drafts


def allocate_kv(config: EngineConfig, facts: EngineFacts) -> list[LayerKV]:
    """One pair of tensors per layer; address space now, memory as blocks are first written."""
    spec, dtype = config.model.spec, kv_cache_dtype(config)
    num_blocks = facts.num_blocks + NUM_NULL_BLOCKS
    return [
        LayerKV(*allocate_kv_cache(num_blocks, spec.num_kv_heads, spec.head_dim, facts.block_size, dtype))
        for _ in range(spec.num_layers)
    ]


def _log(config: EngineConfig, budget: MemoryBudget, plan: KVCachePlan) -> None:
    if config.cache.num_blocks_override is not None:
        logger.info("Overriding the number of KV blocks with %d", config.cache.num_blocks_override)
    logger.info("Available KV cache memory: %.2f GiB", available_kv_bytes(config.cache, budget) / GIB)
    logger.info("CPU KV cache size: %s tokens", f"{plan.num_tokens:,}")
    logger.info("Maximum concurrency for %s tokens per request: %.2fx", f"{plan.max_model_len:,}", plan.max_concurrency)
