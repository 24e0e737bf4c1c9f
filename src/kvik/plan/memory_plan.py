"""One configuration on one device -> where the memory goes, and what fits into the rest. Raises nothing for what does
not fit: that is an outcome too."""

from __future__ import annotations

from dataclasses import dataclass

from kvik.config.engine import EngineConfig
from kvik.plan.formats import Kind
from kvik.plan.kv_cache import KVCachePlan, MemoryBudget, available_kv_bytes, kv_block_bytes, usable_blocks
from kvik.plan.step_memory import activation_bytes, adapters_bytes, framework_bytes, kv_cache_dtype, kv_elements
from kvik.plan.tensors import cannot_share, num_parameters, of_one_device
from kvik.plan.weights import StoredWeights, WeightsPlan, plan_weights


@dataclass(frozen=True)
class Device:
    """What a plan is made for. What is None is computed from the configuration."""

    total_bytes: int
    """Of each device, where several share a model."""
    kind: Kind = "cpu"
    num_devices: int = 1
    native: bool = True
    """Of a CPU: kvik's own kernels compute."""
    weights_bytes: int | None = None
    activations_bytes: int | None = None
    """Peak of a step, the framework included."""
    framework_bytes: int | None = None
    """The framework alone."""
    graphs_bytes: int = 0


@dataclass(frozen=True)
class Outcome:
    """What comes of it, per device."""

    config: EngineConfig
    device: Device
    budget: MemoryBudget
    weights: WeightsPlan
    kv_dtype: str
    kv_bytes_per_token: int
    kv: KVCachePlan
    """With less than a block where there is no room at all."""
    problem: str | None
    """Why it cannot be, whatever the memory: a model that does not divide; None where only memory counts."""

    @property
    def available_bytes(self) -> int:
        """For the KV cache; negative where the rest does not fit already."""
        return available_kv_bytes(self.config.cache, self.budget)

    @property
    def fits(self) -> bool:
        return self.problem is None and self.kv.num_blocks >= 1 and self.kv.num_tokens >= self.kv.max_model_len

    @property
    def largest_model_len(self) -> int:
        """Tokens of the longest request that fits; 0 where none does."""
        return min(self.kv.num_tokens, self.config.model.spec.max_position_embeddings)

    @property
    def max_requests(self) -> int:
        """Whole requests of `max_model_len` tokens that can run at once."""
        return min(self.requests_of(self.kv.max_model_len), self.config.scheduler.max_num_seqs)

    def requests_of(self, num_tokens: int) -> int:
        """Whole requests of so many tokens that the KV cache holds."""
        return self.kv.num_blocks // -(-num_tokens // self.kv.block_size)

    @property
    def num_parameters(self) -> int:
        return num_parameters(self.config.model.spec)


def compute(config: EngineConfig, stored: StoredWeights, device: Device) -> Outcome:
    """The arithmetic of a start, without its measurements."""
    spec, cache = config.model.spec, config.cache
    problem = cannot_share(spec, device.num_devices)
    share = spec if problem or device.num_devices == 1 else of_one_device(spec, device.num_devices)
    weights = plan_weights(config.model, share, stored, device.kind, native=device.native)
    activations = device.activations_bytes
    if activations is None:
        framework = framework_bytes(config) if device.framework_bytes is None else device.framework_bytes
        activations = framework + activation_bytes(config, share, device.kind)
    budget = MemoryBudget(
        total_bytes=device.total_bytes,
        utilization=cache.gpu_memory_utilization,
        weights_bytes=weights.num_bytes if device.weights_bytes is None else device.weights_bytes,
        activations_bytes=activations,
        graphs_bytes=device.graphs_bytes,
        adapters_bytes=adapters_bytes(config, share),
    )
    kv_dtype = kv_cache_dtype(config, device.kind)
    elements = kv_elements(kv_dtype)
    block_bytes = kv_block_bytes(share, cache.block_size, elements)
    num_blocks = max(0, usable_blocks(cache, budget, block_bytes))
    longest = min(num_blocks * cache.block_size, spec.max_position_embeddings)
    kv = KVCachePlan(block_bytes, num_blocks, cache.block_size, config.model.max_model_len or max(1, longest))
    return Outcome(config, device, budget, weights, kv_dtype, block_bytes // cache.block_size, kv, problem)
