"""What other flags would change: one flag at a time, and which of them would make a start fit that does not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from kvik.config.device_kind import name_of
from kvik.config.engine import EngineConfig
from kvik.plan.kv_cache import NUM_NULL_BLOCKS
from kvik.plan.memory_plan import Device, Outcome, compute
from kvik.plan.weights import StoredWeights

_TENSOR_PARALLEL_SIZES = (1, 2, 4, 8)
_CONTEXTS = (2048, 8192, 32768, 131072)
_BUDGETS = (1024, 512, 256, 128, 64, 32, 16)
_SMALL_KV = {"cpu": ("float16", "int8"), "cuda": ("float16", "float8_e4m3fn")}
_AT_LOAD = {"cpu": ("int8", "int4"), "cuda": ("fp8", "int8", "int4")}

Flags = tuple[tuple[str, str], ...]
"""Flags, dashes included, and their values."""


@dataclass(frozen=True)
class Variant:
    """The plan with other flags."""

    flags: Flags
    outcome: Outcome

    @property
    def text(self) -> str:
        return " ".join(f"{flag} {value}" for flag, value in self.flags)


def variants(base: Outcome, stored: StoredWeights) -> list[Variant]:
    """One flag changed at a time; those that are so already are left out."""
    return [Variant(flags, compute(config, stored, device)) for flags, config, device in _single_changes(base, stored)]


def _single_changes(base: Outcome, stored: StoredWeights) -> Iterator[tuple[Flags, EngineConfig, Device]]:
    config, device = base.config, base.device
    for length in _CONTEXTS:
        if length <= config.model.spec.max_position_embeddings and length != config.model.max_model_len:
            yield (("--max-model-len", str(length)),), with_length(config, length), device
    for dtype in _other_kv_dtypes(base):
        yield (("--kv-cache-dtype", name_of(dtype)),), with_kv_dtype(config, dtype), device
    if device.weights_bytes is None:
        for method in _other_quantizations(base, stored):
            yield (("--quantization", method),), with_quantization(config, method, stored), device
        for size in _TENSOR_PARALLEL_SIZES:
            if size != device.num_devices:
                yield (("--tensor-parallel-size", str(size)),), config, replace(device, num_devices=size)


def _other_kv_dtypes(base: Outcome) -> list[str]:
    """Those that take another number of bytes."""
    spec = base.config.model.spec
    possible = [dtype for dtype in _SMALL_KV[base.device.kind] if dtype != "int8" or spec.head_dim % 4 == 0]
    changed = (compute(with_kv_dtype(base.config, dtype), StoredWeights(), base.device) for dtype in possible)
    pairs = zip(possible, changed, strict=True)
    return [dtype for dtype, outcome in pairs if outcome.kv_bytes_per_token != base.kv_bytes_per_token]


def _other_quantizations(base: Outcome, stored: StoredWeights) -> list[str]:
    asked = base.config.model.quantization
    if stored.is_fp8 and base.device.kind == "cpu":  # floats there, unless they are quantised again
        as_it_is = asked in (None, "none")
        return [*([] if as_it_is else [stored.method or "none"]), *(m for m in ("int8", "int4") if m != asked)]
    if stored.method is not None:
        return ["none"] if asked is None else [stored.method]
    return [method for method in _AT_LOAD[base.device.kind] if method != asked]


# --- what would fit -------------------------------------------------------------------------------


def remedies(base: Outcome, stored: StoredWeights) -> list[Variant]:
    """Changes that make a plan fit that does not: single flags, each enough by itself, least painful first; where no
    single one is enough, flags that are together. Empty where it fits, or nothing helps."""
    if base.fits or base.problem is not None:
        return []
    single = [found for find in _FINDERS for found in _first_that_fits(find(base, stored))]
    return single or _together(base, stored)


def largest_context(base: Outcome, stored: StoredWeights) -> int:
    """Tokens of the longest request that fits, its tables of positions counted; 0 where none does."""
    if base.config.model.max_model_len is None:
        return base.largest_model_len
    low, high = 0, base.config.model.spec.max_position_embeddings
    while low < high:
        middle = (low + high + 1) // 2
        if compute(with_length(base.config, middle), stored, base.device).fits:
            low = middle
        else:
            high = middle - 1
    return low


def needed_device_bytes(base: Outcome) -> int:
    """Memory that a device would need for the plan as it is, a request of `max_model_len` tokens running."""
    needed = base.budget.taken_bytes + _needed_kv_bytes(base)
    share = base.config.cache.gpu_memory_utilization
    total = int(needed / share)
    while int(total * share) < needed:
        total += 1
    return total


def _needed_kv_bytes(base: Outcome) -> int:
    num_blocks = -(-base.kv.max_model_len // base.kv.block_size) + NUM_NULL_BLOCKS
    return num_blocks * base.kv.block_bytes


def _shorter(base: Outcome, stored: StoredWeights) -> Iterator[Variant]:
    length = largest_context(base, stored)
    if length >= base.kv.block_size:
        config = with_length(base.config, length)
        yield Variant((("--max-model-len", str(length)),), compute(config, stored, base.device))


def _larger_share(base: Outcome, stored: StoredWeights) -> Iterator[Variant]:
    cache = base.config.cache
    if cache.is_sized_by_number:
        return
    needed = base.budget.taken_bytes + _needed_kv_bytes(base)
    hundredths = -(-100 * needed // max(1, base.budget.total_bytes))
    for share in range(hundredths, min(hundredths + 2, 101)):  # the product of floats may fall below the bytes
        config = replace(base.config, cache=replace(cache, gpu_memory_utilization=share / 100))
        yield Variant((("--gpu-memory-utilization", f"{share / 100:.2f}"),), compute(config, stored, base.device))


def _explicit_cache(base: Outcome, stored: StoredWeights) -> Iterator[Variant]:
    """What was asked for by number is raised by number."""
    cache, num_bytes = base.config.cache, _needed_kv_bytes(base)
    if cache.num_blocks_override is not None:
        count = num_bytes // base.kv.block_bytes
        config = replace(base.config, cache=replace(cache, num_blocks_override=count))
        yield Variant((("--num-gpu-blocks-override", str(count)),), compute(config, stored, base.device))
    elif cache.kv_cache_memory_bytes is not None:
        config = replace(base.config, cache=replace(cache, kv_cache_memory_bytes=num_bytes))
        yield Variant((("--kv-cache-memory-bytes", str(num_bytes)),), compute(config, stored, base.device))


def _smaller_kv(base: Outcome, stored: StoredWeights) -> Iterator[Variant]:
    for dtype in _other_kv_dtypes(base):
        outcome = compute(with_kv_dtype(base.config, dtype), stored, base.device)
        if outcome.kv_bytes_per_token < base.kv_bytes_per_token:
            yield Variant((("--kv-cache-dtype", name_of(dtype)),), outcome)


def _smaller_weights(base: Outcome, stored: StoredWeights) -> Iterator[Variant]:
    device = replace(base.device, weights_bytes=None)
    for method in _other_quantizations(base, stored):
        outcome = compute(with_quantization(base.config, method, stored), stored, device)
        if outcome.budget.weights_bytes < base.budget.weights_bytes:
            yield Variant((("--quantization", method),), outcome)


def _shorter_steps(base: Outcome, stored: StoredWeights) -> Iterator[Variant]:
    """Smaller token budgets, and no more requests than that."""
    scheduler = base.config.scheduler
    if base.device.activations_bytes is not None or not scheduler.enable_chunked_prefill:
        return
    for budget in _BUDGETS:
        if budget >= scheduler.max_num_batched_tokens:
            continue
        num_seqs = min(scheduler.max_num_seqs, budget)
        config = replace(
            base.config, scheduler=replace(scheduler, max_num_batched_tokens=budget, max_num_seqs=num_seqs)
        )
        flags: Flags = (("--max-num-batched-tokens", str(budget)),)
        if num_seqs < scheduler.max_num_seqs:
            flags = (*flags, ("--max-num-seqs", str(num_seqs)))
        yield Variant(flags, compute(config, stored, base.device))


def _more_devices(base: Outcome, stored: StoredWeights) -> Iterator[Variant]:
    if base.device.kind == "cpu":
        return
    for size in _TENSOR_PARALLEL_SIZES:
        if size > base.device.num_devices:
            device = replace(base.device, num_devices=size, weights_bytes=None)
            yield Variant((("--tensor-parallel-size", str(size)),), compute(base.config, stored, device))


def _together(base: Outcome, stored: StoredWeights) -> list[Variant]:
    """Smaller keys and values, then smaller weights, then shorter steps, until it fits; else the rest of the device or
    a shorter context beside them."""
    now = Variant((), base)
    for find in (_smaller_kv, _smaller_weights, _shorter_steps):
        found = [variant for variant in find(now.outcome, stored) if _helps(variant.outcome, now.outcome)]
        if found:
            best = next(iter(_first_that_fits(found)), found[-1])
            now = Variant((*now.flags, *best.flags), best.outcome)
        if now.outcome.fits:
            return [now]
    more = [found for find in (_larger_share, _shorter) for found in _first_that_fits(find(now.outcome, stored))]
    return [Variant((*now.flags, *found.flags), found.outcome) for found in more]


def _first_that_fits(found: Iterable[Variant]) -> list[Variant]:
    """One or none."""
    return list(islice((variant for variant in found if variant.outcome.fits), 1))


def _helps(outcome: Outcome, before: Outcome) -> bool:
    more = outcome.available_bytes > before.available_bytes
    return more or outcome.kv_bytes_per_token < before.kv_bytes_per_token


_Finder = Callable[[Outcome, StoredWeights], Iterator[Variant]]
_FINDERS: tuple[_Finder, ...] = (
    _shorter, _explicit_cache, _larger_share, _smaller_kv, _shorter_steps, _smaller_weights, _more_devices,
)  # fmt: skip


def with_length(config: EngineConfig, length: int) -> EngineConfig:
    return replace(config, model=replace(config.model, max_model_len=length))


def with_kv_dtype(config: EngineConfig, dtype: str) -> EngineConfig:
    return replace(config, cache=replace(config.cache, kv_cache_dtype=dtype))


def with_quantization(config: EngineConfig, method: str, stored: StoredWeights) -> EngineConfig:
    """`method` as the flag takes it: the name of what a checkpoint is asks for nothing more."""
    at_load = None if method == stored.method else method
    return replace(config, model=replace(config.model, quantization=at_load))
