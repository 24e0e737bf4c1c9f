"""How much memory keys and values get on a CPU, and taking it. The arithmetic itself is `kvik.plan`'s."""

from __future__ import annotations

import torch

from kvik.config import EngineConfig
from kvik.errors import InsufficientMemoryError
from kvik.kernels import runtime
from kvik.kernels.paged_attention import allocate_kv_cache
from kvik.kernels.paged_attention.backends import Backend
from kvik.layers.batch import LayerKV
from kvik.messages import EngineFacts
from kvik.plan import GIB, KVCachePlan, MemoryBudget, available_kv_bytes, plan_kv_cache
from kvik.plan.explanation import explanation
from kvik.plan.memory_plan import Device, compute
from kvik.plan.step_memory import (
    activation_bytes,
    framework_bytes,
    kv_cache_dtype,
    kv_elements,
    share_of,
    usable_memory_bytes,
)
from kvik.plan.step_memory import adapters_bytes as planned_adapters_bytes
from kvik.plan.weights import StoredWeights
from kvik.platforms import cpu
from kvik.telemetry.log import get_logger

logger = get_logger(__name__)


def plan_kv_memory(
    config: EngineConfig, weights_bytes: int, adapters_bytes: int = 0, stored: StoredWeights | None = None
) -> EngineFacts:
    """Settle the number of blocks and the context length, and log them. The weights are in memory already; the slots of
    adapters take `adapters_bytes` when they are written.

    Raises `InsufficientMemoryError`, with the whole plan, when one request of `max_model_len` tokens does not fit.
    `stored` tells what --quantization would change.
    """
    budget = cpu_budget(config, weights_bytes, adapters_bytes)
    elements = kv_elements(kv_cache_dtype(config))
    try:
        plan = plan_kv_cache(share_of(config), config.cache, budget, elements, config.model.max_model_len)
    except InsufficientMemoryError as error:
        raise InsufficientMemoryError(f"{error}\n{_explanation(config, budget, stored or StoredWeights())}") from None
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
        framework_bytes=budget.activations_bytes - activation_bytes(config),
        device_memory_bytes=budget.total_bytes,
    )
    _log(config, budget, plan)
    return facts


def check_room(config: EngineConfig, weights_bytes: int, stored: StoredWeights) -> None:
    """Whether a start can come to an end, before the weights are read. Raises `InsufficientMemoryError`."""
    budget = _budget(config, weights_bytes, planned_adapters_bytes(config), framework_bytes(config))
    elements = kv_elements(kv_cache_dtype(config))
    try:
        plan_kv_cache(share_of(config), config.cache, budget, elements, config.model.max_model_len)
    except InsufficientMemoryError as error:
        raise InsufficientMemoryError(f"{error}\n{_explanation(config, budget, stored)}") from None


def kv_cache_torch_dtype(config: EngineConfig) -> torch.dtype:
    dtype: torch.dtype = getattr(torch, kv_cache_dtype(config))
    return dtype


def cpu_budget(config: EngineConfig, weights_bytes: int, adapters_bytes: int = 0) -> MemoryBudget:
    """The machine's memory as far as other processes leave it, less what this one holds and will need in a step; of
    several workers, an equal part of it.

    What the framework takes is a planned number, so that plans agree; only where it takes more is it what was measured.
    """
    planned = framework_bytes(config)
    measured = cpu.resident_memory_bytes() - weights_bytes
    if measured > planned:
        logger.warning(
            "The engine holds %.2f GiB beside its weights, more than the %.2f GiB that are planned for: the KV cache "
            "gets the less, and `kvik plan` would promise a little more.", measured / GIB, planned / GIB,
        )  # fmt: skip
    return _budget(config, weights_bytes, adapters_bytes, max(planned, measured))


def _budget(config: EngineConfig, weights_bytes: int, adapters_bytes: int, framework: int) -> MemoryBudget:
    total = config.cache.device_memory_bytes
    if total is None:
        num_workers = config.parallel.tensor_parallel_size
        unused = cpu.available_memory_bytes() + num_workers * cpu.resident_memory_bytes()
        total = usable_memory_bytes(cpu.total_memory_bytes(), unused) // num_workers
    return MemoryBudget(
        total_bytes=total,
        utilization=config.cache.gpu_memory_utilization,
        weights_bytes=weights_bytes,
        activations_bytes=framework + activation_bytes(config),
        adapters_bytes=adapters_bytes,
    )


def _explanation(config: EngineConfig, budget: MemoryBudget, stored: StoredWeights) -> str:
    device = Device(
        budget.total_bytes,
        num_devices=config.parallel.tensor_parallel_size,
        native=runtime.isa() != "reference",
        weights_bytes=budget.weights_bytes,
        framework_bytes=budget.activations_bytes - activation_bytes(config),
    )
    return explanation(compute(config, stored, device), stored)


def allocate_kv(config: EngineConfig, num_blocks: int, attention: Backend) -> list[LayerKV]:
    """One pair of tensors per layer; address space now, memory as blocks are first written."""
    spec, dtype = share_of(config), kv_cache_torch_dtype(config)
    shape = num_blocks, spec.num_kv_heads, spec.head_dim, config.cache.block_size
    return [LayerKV(*allocate_kv_cache(*shape, dtype), attention.attend) for _ in range(spec.num_layers)]


def _log(config: EngineConfig, budget: MemoryBudget, plan: KVCachePlan) -> None:
    if config.cache.num_blocks_override is not None:
        logger.info("Overriding the number of KV blocks with %d", config.cache.num_blocks_override)
    logger.info(
        "Memory: %.2f GiB x %.2f, less %.2f GiB of weights and %.2f GiB of activations and framework (as `kvik plan "
        "--device-memory %d` has it)",
        budget.total_bytes / GIB, budget.utilization, budget.weights_bytes / GIB, budget.activations_bytes / GIB,
        budget.total_bytes,
    )  # fmt: skip
    logger.info("Available KV cache memory: %.2f GiB", available_kv_bytes(config.cache, budget) / GIB)
    logger.info("CPU KV cache size: %s tokens", f"{plan.num_tokens:,}")
    logger.info("Maximum concurrency for %s tokens per request: %.2fx", f"{plan.max_model_len:,}", plan.max_concurrency)
