"""A complete `EngineConfig` of a model that is never loaded."""

from __future__ import annotations

from kvik.config import CacheConfig, EngineConfig, ModelConfig, ObservabilityConfig, SchedulerConfig
from kvik.modelfile.spec import ModelSpec, RopeSpec

TINY_SPEC = ModelSpec(
    architecture="LlamaForCausalLM",
    vocab_size=50,
    hidden_size=8,
    intermediate_size=16,
    num_layers=1,
    num_heads=2,
    num_kv_heads=1,
    head_dim=4,
    max_position_embeddings=64,
    rms_norm_eps=1e-5,
    rope=RopeSpec(theta=10000.0),
)


def tiny_config(*, log_stats: bool = True, max_num_batched_tokens: int = 64) -> EngineConfig:
    return EngineConfig(
        model=ModelConfig(model="/nowhere", spec=TINY_SPEC, tokenizer="/nowhere", served_model_names=("tiny",)),
        cache=CacheConfig(block_size=4),
        scheduler=SchedulerConfig(max_num_batched_tokens=max_num_batched_tokens),
        observability=ObservabilityConfig(log_stats=log_stats),
    )
