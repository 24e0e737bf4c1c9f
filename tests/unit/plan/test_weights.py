"""What a plan says of the weights is what a model's layers then take, to the byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from kvik.config.args import AsyncEngineArgs
from kvik.config.engine import EngineConfig
from kvik.layers.formats import float_format, formats_in_memory
from kvik.modelfile import open_config
from kvik.models import build_model
from kvik.plan.formats import has_native_kernels
from kvik.plan.stored import stored_weights
from kvik.plan.weights import plan_weights

SHAPE = {
    "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 1000, "max_position_embeddings": 512, "rms_norm_eps": 1e-5,
    "hidden_act": "silu", "rope_theta": 10000.0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GEMMA = {
    "hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": 64, "sliding_window": 64,
    "sliding_window_pattern": 2, "rope_local_base_freq": 10000.0,
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "LlamaForCausalLM": {"model_type": "llama", "tie_word_embeddings": False},
    "MistralForCausalLM": {"model_type": "mistral", "tie_word_embeddings": False, "sliding_window": 64},
    "Qwen2ForCausalLM": {"model_type": "qwen2", "tie_word_embeddings": True},
    "Qwen3ForCausalLM": {"model_type": "qwen3", "tie_word_embeddings": False},
    "Gemma3ForCausalLM": {"model_type": "gemma3_text", "tie_word_embeddings": True} | GEMMA,
}


def config_of(folder: Path, architecture: str, **flags: Any) -> EngineConfig:
    path = folder / "config.json"
    path.write_text(json.dumps({"architectures": [architecture]} | SHAPE | MODELS[architecture]))
    args = AsyncEngineArgs(model=str(path), load_format="dummy", device="cpu", **flags)
    return args.create_engine_config(open_config(str(path)))


def taken_bytes(config: EngineConfig) -> int:
    """By the layers of the model, as a start makes them."""
    asked = config.model
    dtype = getattr(torch, asked.dtype)
    floats = float_format(dtype, is_exact=asked.matmul_precision == "highest")
    formats = formats_in_memory(asked.quantization, None, floats, quantize_embedding=False)
    return build_model(asked.spec, dtype, max_positions=512, format_of=formats).weights_bytes


@pytest.mark.parametrize(
    "flags", [{}, {"quantization": "int8"}, {"quantization": "int4"}, {"dtype": "float32"}], ids=str
)
@pytest.mark.parametrize("architecture", MODELS)
def test_every_architecture_in_every_format(architecture: str, flags: dict[str, Any], tmp_path: Path) -> None:
    config = config_of(tmp_path, architecture, **flags)
    native = has_native_kernels()
    plan = plan_weights(config.model, config.model.spec, stored_weights(None), "cpu", native=native)
    assert plan.num_bytes == taken_bytes(config)
