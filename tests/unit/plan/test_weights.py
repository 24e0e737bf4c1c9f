"""What a plan says of the weights is what a model's layers then take, to the byte."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
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
from support.triton_interpreter import standing_in_for_gpu

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


FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic"}


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        (None, "fp8"),
        (FP8, None),
        ({**FP8, "activation_scheme": "static"}, None),
        ({**FP8, "weight_block_size": [128, 128]}, None),
        (FP8, "none"),
    ],
)
def test_8_bit_floats_on_a_gpu(stored: dict[str, Any] | None, asked: str | None, tmp_path: Path) -> None:
    """The config alone says how the layers are stored; embedding and head stay floats."""
    config = config_of(tmp_path, "LlamaForCausalLM", dtype="bfloat16")
    text = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(text | ({"quantization_config": stored} if stored else {})))
    known = stored_weights(open_config(str(tmp_path / "config.json")))
    model = replace(config.model, quantization=asked)
    plan = plan_weights(model, model.spec, known, "cuda", native=False)
    checkpoint = SimpleNamespace(format_of=known.format_of or (lambda name: "bf16"))
    formats = formats_in_memory(asked, checkpoint, "bf16", keeps_fp8=True)
    with standing_in_for_gpu():
        built = build_model(model.spec, torch.bfloat16, max_positions=512, format_of=formats)
    assert {fmt: n for fmt, n in plan.bytes_by_format.items() if fmt != "f32"} == {
        fmt: n for fmt, n in built.weights_bytes_by_format.items() if fmt != "f32"
    }
    quantised = sum(n for fmt, n in plan.bytes_by_format.items() if fmt.startswith("fp8"))
    assert (quantised > 0) is (asked != "none")
    on_a_cpu = plan_weights(replace(model, quantization=None), model.spec, known, "cpu", native=True)
    assert not [fmt for fmt in on_a_cpu.bytes_by_format if fmt.startswith("fp8")]


@pytest.mark.parametrize(
    "flags", [{}, {"quantization": "int8"}, {"quantization": "int4"}, {"dtype": "float32"}], ids=str
)
@pytest.mark.parametrize("architecture", MODELS)
def test_every_architecture_in_every_format(architecture: str, flags: dict[str, Any], tmp_path: Path) -> None:
    config = config_of(tmp_path, architecture, **flags)
    native = has_native_kernels()
    plan = plan_weights(config.model, config.model.spec, stored_weights(None), "cpu", native=native)
    assert plan.num_bytes == taken_bytes(config)
