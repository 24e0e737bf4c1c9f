"""Specs against what transformers' config classes make of the same values."""

from __future__ import annotations

import json
from typing import Any

import pytest
from transformers import (
    Gemma3Config,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from kvik.errors import ModelFileError, UnsupportedArchitectureError
from kvik.modelfile import SUPPORTED_ARCHITECTURES, Llama3RopeScaling, ModelSpec, RopeSpec
from kvik.modelfile.architectures import parse_config

SIZES: dict[str, Any] = {
    "vocab_size": 1000,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 14,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}
CLASSES: dict[str, type[PreTrainedConfig]] = {
    "LlamaForCausalLM": LlamaConfig,
    "MistralForCausalLM": MistralConfig,
    "Qwen2ForCausalLM": Qwen2Config,
    "Qwen3ForCausalLM": Qwen3Config,
    "Gemma3ForCausalLM": Gemma3TextConfig,
}
LLAMA3_SCALING = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 512,
}


def parse(architecture: str, **values: Any) -> ModelSpec:
    return parse_config({"architectures": [architecture], **SIZES, **values}, "config.json")


def windows(config: PreTrainedConfig) -> tuple[int, ...]:
    """Per layer, as transformers' attention reads the config; () where there is none."""
    types = getattr(config, "layer_types", None) or ["sliding_attention"] * config.num_hidden_layers
    window = getattr(config, "sliding_window", None) or 0
    each = tuple(window if kind == "sliding_attention" else 0 for kind in types)
    return each if any(each) else ()


@pytest.mark.parametrize("saved", [False, True], ids=["as published", "as transformers saves it"])
@pytest.mark.parametrize(
    ("architecture", "values"),
    [
        ("LlamaForCausalLM", {}),
        ("LlamaForCausalLM", {"head_dim": 16, "num_key_value_heads": None, "attention_bias": True, "mlp_bias": True}),
        ("LlamaForCausalLM", {"rope_theta": 5e5, "eos_token_id": [5, 6], "tie_word_embeddings": True}),
        ("MistralForCausalLM", {}),
        ("MistralForCausalLM", {"sliding_window": None, "head_dim": 128}),
        ("Qwen2ForCausalLM", {}),
        ("Qwen2ForCausalLM", {"use_sliding_window": True, "sliding_window": 77, "max_window_layers": 10}),
        ("Qwen3ForCausalLM", {}),
        ("Qwen3ForCausalLM", {"attention_bias": True, "head_dim": 32}),
        ("Gemma3ForCausalLM", {}),
        ("Gemma3ForCausalLM", {"sliding_window": 512, "sliding_window_pattern": 3, "query_pre_attn_scalar": 168}),
    ],
)
def test_agrees_with_transformers(architecture: str, values: dict[str, Any], saved: bool) -> None:
    truth = CLASSES[architecture](**SIZES | values)
    if saved:
        spec = parse_config({"architectures": [architecture], **json.loads(truth.to_json_string())}, "config.json")
    else:
        spec = parse(architecture, **values)
    assert spec.architecture == architecture
    assert spec.num_layers == truth.num_hidden_layers
    assert spec.num_heads == truth.num_attention_heads
    assert spec.num_kv_heads == truth.num_key_value_heads
    assert spec.head_dim == (getattr(truth, "head_dim", None) or truth.hidden_size // truth.num_attention_heads)
    for name in ("vocab_size", "hidden_size", "intermediate_size", "max_position_embeddings", "rms_norm_eps"):
        assert getattr(spec, name) == getattr(truth, name), name
    assert spec.tie_word_embeddings == truth.tie_word_embeddings
    assert spec.sliding_windows == windows(truth)
    assert spec.attention_bias == (
        True if architecture == "Qwen2ForCausalLM" else getattr(truth, "attention_bias", False)
    )
    assert spec.mlp_bias == getattr(truth, "mlp_bias", False)
    assert spec.bos_token_id == truth.bos_token_id
    eos = truth.eos_token_id
    assert spec.eos_token_ids == (() if eos is None else tuple(eos) if isinstance(eos, list) else (eos,))
    if architecture == "Gemma3ForCausalLM":
        assert spec.activation == "gelu_tanh"
        assert spec.query_scale == truth.query_pre_attn_scalar**-0.5
        assert spec.rope.theta == truth.rope_parameters["full_attention"]["rope_theta"]
        assert spec.local_rope == RopeSpec(truth.rope_parameters["sliding_attention"]["rope_theta"])
    else:
        assert spec.activation == "silu"
        assert spec.query_scale is None
        assert spec.local_rope is None
        assert spec.rope == RopeSpec(truth.rope_parameters["rope_theta"])


@pytest.mark.parametrize(
    "values",
    [
        {"rope_theta": 5e5, "rope_scaling": LLAMA3_SCALING},
        {"rope_parameters": {**LLAMA3_SCALING, "rope_theta": 5e5}},
        {"rope_theta": 1.0, "rope_parameters": {**LLAMA3_SCALING, "rope_theta": 5e5}},
    ],
)
def test_llama3_scaling_old_and_new(values: dict[str, Any]) -> None:
    rope = parse("LlamaForCausalLM", **values).rope
    assert rope == RopeSpec(5e5, llama3=Llama3RopeScaling(8.0, 1.0, 4.0, 512))


def test_linear_scaling_old_and_new() -> None:
    wanted = RopeSpec(1e4, linear_factor=2.0)
    assert parse("LlamaForCausalLM", rope_scaling={"type": "linear", "factor": 2}).rope == wanted
    assert (
        parse("LlamaForCausalLM", rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}).rope
        == wanted
    )


def test_gemma3_stretches_the_full_layers_only() -> None:
    spec = parse("Gemma3ForCausalLM", rope_scaling={"rope_type": "linear", "factor": 8.0})
    assert spec.rope == RopeSpec(1e6, linear_factor=8.0)
    assert spec.local_rope == RopeSpec(1e4)


def test_gemma3_text_and_images_gives_the_text_model() -> None:
    text = {**SIZES, "sliding_window": 1024, "rope_scaling": {"factor": 8.0, "rope_type": "linear"}}
    values = {"architectures": ["Gemma3ForConditionalGeneration"], "eos_token_id": [1, 106], "text_config": text}
    spec = parse_config({**values, "torch_dtype": "bfloat16", "vision_config": {}}, "config.json")
    truth = Gemma3Config(text_config=text).text_config
    assert spec.architecture == "Gemma3ForCausalLM"
    assert spec.eos_token_ids == (1, 106)
    assert spec.dtype == "bfloat16"
    assert (spec.head_dim, spec.sliding_windows) == (truth.head_dim, windows(truth))
    assert spec.tie_word_embeddings


@pytest.mark.parametrize(
    ("values", "dtype"), [({"dtype": "float16"}, "float16"), ({"torch_dtype": "bfloat16"}, "bfloat16")]
)
def test_dtype_under_either_name(values: dict[str, str], dtype: str) -> None:
    assert parse("LlamaForCausalLM", **values).dtype == dtype


def test_model_type_stands_in_for_a_missing_architecture() -> None:
    assert parse_config({**SIZES, "model_type": "qwen3"}, "config.json").architecture == "Qwen3ForCausalLM"


def test_an_unsupported_architecture_lists_those_there_are_and_the_nearest() -> None:
    with pytest.raises(UnsupportedArchitectureError) as caught:
        parse("Qwen2MoeForCausalLM")
    assert all(name in str(caught.value) for name in SUPPORTED_ARCHITECTURES)
    assert "the nearest is Qwen2ForCausalLM" in str(caught.value)


def test_code_of_the_model_is_never_run_and_the_error_says_so() -> None:
    with pytest.raises(UnsupportedArchitectureError, match="never runs code from a model's folder"):
        parse("MyForCausalLM", auto_map={"AutoModelForCausalLM": "modeling.MyForCausalLM"})


@pytest.mark.parametrize(
    ("architecture", "values", "complaint"),
    [
        ("LlamaForCausalLM", {"hidden_size": None}, "'hidden_size' is null"),
        ("LlamaForCausalLM", {"num_hidden_layers": "12"}, "'num_hidden_layers' is '12'; it must be an integer"),
        ("LlamaForCausalLM", {"num_hidden_layers": 10**9}, "'num_hidden_layers' is 1000000000; it must be 1 to"),
        ("LlamaForCausalLM", {"num_key_value_heads": 5}, "32 query heads cannot share 5 key-value heads"),
        ("LlamaForCausalLM", {"head_dim": 3}, "head_dim is 3"),
        ("LlamaForCausalLM", {"hidden_size": 65}, "no multiple of num_attention_heads"),
        ("LlamaForCausalLM", {"hidden_act": "relu"}, "'hidden_act' is 'relu'; known are silu"),
        ("LlamaForCausalLM", {"dtype": "int8"}, "'dtype' is 'int8'; known are"),
        ("LlamaForCausalLM", {"eos_token_id": 1000}, "token id 1000 is outside the vocabulary of 1000"),
        ("LlamaForCausalLM", {"rms_norm_eps": 0}, "'rms_norm_eps'"),
        (
            "LlamaForCausalLM",
            {"rope_scaling": {"type": "yarn", "factor": 2.0}},
            "'yarn'; supported are default, linear",
        ),
        ("LlamaForCausalLM", {"rope_scaling": {"type": "linear"}}, "rope_scaling: field 'factor' is missing"),
        ("LlamaForCausalLM", {"rope_scaling": {**LLAMA3_SCALING, "low_freq_factor": 4}}, "'high_freq_factor'"),
        ("LlamaForCausalLM", {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ("LlamaForCausalLM", {"rope_parameters": {"full_attention": {}}}, "differs by layer type"),
        ("MistralForCausalLM", {"sliding_window": 0}, "'sliding_window' is 0"),
        ("Qwen2ForCausalLM", {"layer_types": ["full_attention"]}, "has 1 entries for 14 layers"),
        ("Qwen2ForCausalLM", {"layer_types": ["linear_attention"] * 14}, "'linear_attention'"),
        ("Qwen2ForCausalLM", {"layer_types": ["sliding_attention"] * 14}, "no sliding_window is in use"),
        ("Gemma3ForCausalLM", {"final_logit_softcapping": 30.0}, "'final_logit_softcapping' is 30.0"),
        ("Gemma3ForCausalLM", {"rope_parameters": {"rope_type": "default"}}, "full_attention and sliding_attention"),
        ("Gemma3ForConditionalGeneration", {}, "'text_config' is missing"),
    ],
)
def test_senseless_values_are_named(architecture: str, values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ModelFileError, match=complaint):
        parse(architecture, **values)


def test_not_a_config_at_all() -> None:
    with pytest.raises(ModelFileError, match="neither 'architectures' nor 'model_type'"):
        parse_config({}, "config.json")
