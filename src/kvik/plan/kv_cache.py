"""How many KV blocks fit, how many tokens they hold, and why they do not where they do not.

Pure numbers in, pure numbers out; reads no device.
All sizes are bytes unless a name says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvik.config import CacheConfig
from kvik.errors import InsufficientMemoryError
from kvik.modelfile.spec import ModelSpec

GIB = 1024**3
NUM_NULL_BLOCKS = 1
"""Block 0 stands for "nothing here": it takes its place in the tensors, and no token ever lives in it."""


@dataclass(frozen=True)
class MemoryBudget:
    """Where the device's memory goes, before the KV cache gets the rest."""

    total_bytes: int
    """The device's memory; on a CPU, the machine's."""
    utilization: float
    """Share of it that this engine may take: --gpu-memory-utilization."""
    weights_bytes: int
    activations_bytes: int = 0
    """Peak of activations, and what the framework itself takes."""
    graphs_bytes: int = 0
    """Captured CUDA graphs."""
    adapters_bytes: int = 0
    """Slots of LoRA adapters."""

    @property
    def requested_bytes(self) -> int:
        return int(self.total_bytes * self.utilization)

    @property
    def taken_bytes(self) -> int:
        return self.weights_bytes + self.activations_bytes + self.graphs_bytes + self.adapters_bytes

    @property
    def available_bytes(self) -> int:
        """What is left for the KV cache; negative when the rest does not fit already."""
        return self.requested_bytes - self.taken_bytes


@dataclass(frozen=True)
class KVElements:
    """How the KV cache stores numbers."""

    dtype_bytes: int
    """Of one element of a key or value."""
    scale_bytes: int = 0
    """Beside each key and each value of a head, where the elements are scaled."""


@dataclass(frozen=True)
class KVCachePlan:
    """The outcome. The pool's tensors have `num_blocks` + 1 rows: the null block is not among `num_blocks`."""

    block_bytes: int
    """Keys, values and scales of one block in all layers."""
    num_blocks: int
    """Usable blocks."""
    block_size: int
    """Tokens per block."""
    max_model_len: int
    """Tokens, prompt and answer together."""

    @property
    def num_tokens(self) -> int:
        return self.num_blocks * self.block_size

    @property
    def max_concurrency(self) -> float:
        """How many requests of `max_model_len` tokens fit at once."""
        return self.num_tokens / self.max_model_len

    @property
    def pool_bytes(self) -> int:
        """The null block included."""
        return (self.num_blocks + NUM_NULL_BLOCKS) * self.block_bytes


def kv_block_bytes(spec: ModelSpec, block_size: int, elements: KVElements) -> int:
    """Bytes of keys, values and scales of `block_size` tokens in all layers."""
    return block_size * spec.kv_bytes_per_token(elements.dtype_bytes, elements.scale_bytes)


def plan_kv_cache(
    spec: ModelSpec, cache: CacheConfig, budget: MemoryBudget, elements: KVElements, max_model_len: int | None
) -> KVCachePlan:
    """Size the KV cache, and settle the context length: `max_model_len`, or the largest that fits if it is None.

    `kv_cache_memory_bytes` replaces the budget, `num_blocks_override` (null block included) replaces both.
    Raises `InsufficientMemoryError` when not even one request of `max_model_len` tokens fits: it says why; what would
    help says `plan.explanation`.
    """
    block_bytes = kv_block_bytes(spec, cache.block_size, elements)
    num_blocks = usable_blocks(cache, budget, block_bytes)
    if num_blocks < 1:
        raise InsufficientMemoryError(_no_room_at_all(cache, budget, block_bytes))
    largest_len = min(num_blocks * cache.block_size, spec.max_position_embeddings)
    plan = KVCachePlan(block_bytes, num_blocks, cache.block_size, max_model_len or largest_len)
    if plan.max_model_len > plan.num_tokens:
        raise InsufficientMemoryError(_too_long(cache, budget, plan))
    return plan


def available_kv_bytes(cache: CacheConfig, budget: MemoryBudget) -> int:
    """Bytes that the KV cache may take: what was asked for, else what the budget leaves."""
    return budget.available_bytes if cache.kv_cache_memory_bytes is None else cache.kv_cache_memory_bytes


def usable_blocks(cache: CacheConfig, budget: MemoryBudget, block_bytes: int) -> int:
    """How many blocks there would be, the null block not counted; below 1 where there is no room."""
    if cache.num_blocks_override is not None:
        return cache.num_blocks_override - NUM_NULL_BLOCKS
    return available_kv_bytes(cache, budget) // block_bytes - NUM_NULL_BLOCKS


def _no_room_at_all(cache: CacheConfig, budget: MemoryBudget, block_bytes: int) -> str:
    needed_bytes = (1 + NUM_NULL_BLOCKS) * block_bytes
    return f"no memory is left for the KV cache: it needs at least {in_gib(needed_bytes)}, and {_origin(cache, budget)}"


def _too_long(cache: CacheConfig, budget: MemoryBudget, plan: KVCachePlan) -> str:
    num_needed = -(-plan.max_model_len // plan.block_size) + NUM_NULL_BLOCKS
    return (
        f"one request of {plan.max_model_len} tokens (--max-model-len) needs {in_gib(num_needed * plan.block_bytes)} "
        f"of KV cache, and {_origin(cache, budget)}: enough for {plan.num_tokens} tokens"
    )


def _origin(cache: CacheConfig, budget: MemoryBudget) -> str:
    """The bytes that there are, and the sum that they come from."""
    if cache.num_blocks_override is not None:
        return f"--num-gpu-blocks-override gives {cache.num_blocks_override} blocks, one of them the null block"
    if cache.kv_cache_memory_bytes is not None:
        return f"--kv-cache-memory-bytes gives {in_gib(cache.kv_cache_memory_bytes)}"
    missing = "" if budget.available_bytes >= 0 else "less than nothing: "
    adapters = f", {in_gib(budget.adapters_bytes)} of LoRA adapters" if budget.adapters_bytes else ""
    return (
        f"{missing}{in_gib(budget.available_bytes)} are available "
        f"({in_gib(budget.total_bytes)} x {budget.utilization:.2f}, less "
        f"{in_gib(budget.weights_bytes)} of weights, {in_gib(budget.activations_bytes)} of activations{adapters} and "
        f"{in_gib(budget.graphs_bytes)} of graphs)"
    )


def in_gib(num_bytes: int) -> str:
    """Two decimals, or MiB where those would say little."""
    if abs(num_bytes) < GIB / 10:
        return f"{num_bytes / 1024**2:.2f} MiB"
    return f"{num_bytes / GIB:.2f} GiB"
