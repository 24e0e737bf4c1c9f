"""An `EngineConfig` for a model that exists on paper only."""

from __future__ import annotations

from typing import Any

from fakes.byte_tokenizer import VOCAB_SIZE
from kvik.config import EngineConfig, ModelConfig, SchedulerConfig
from kvik.messages import EngineFacts
from kvik.modelfile.spec import ModelSpec, RopeSpec

MAX_MODEL_LEN = 1024


def engine_config(*, eos_token_ids: tuple[int, ...] = (), stream_interval: int = 1, **model: Any) -> EngineConfig:
    """Further arguments are fields of `ModelConfig`."""
    spec = ModelSpec(
        architecture="LlamaForCausalLM",
        vocab_size=VOCAB_SIZE,
        hidden_size=8,
        intermediate_size=8,
        num_layers=1,
        num_heads=1,
        num_kv_heads=1,
        head_dim=8,
        max_position_embeddings=MAX_MODEL_LEN,
        rms_norm_eps=1e-6,
        rope=RopeSpec(10000.0),
        eos_token_ids=eos_token_ids,
    )
    config = ModelConfig(model="paper", spec=spec, tokenizer="paper", served_model_names=("paper",), **model)
    return EngineConfig(config, scheduler=SchedulerConfig(stream_interval=stream_interval))


def engine_facts(max_model_len: int = MAX_MODEL_LEN) -> EngineFacts:
    return EngineFacts("cpu", "reference", 1, 0, 0, num_blocks=64, block_size=16, max_model_len=max_model_len)
