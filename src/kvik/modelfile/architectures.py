"""config.json -> ModelSpec, one function per architecture. Knows no file: see hf_folder.py.

Defaults are those of transformers' config classes, because published configs leave such fields out. The sizes
without which no guess is sensible (hidden size, layers, heads, vocabulary) are asked for, except of Gemma 3, whose
published configs rely on defaults even for these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches
from typing import Any, Final

from kvik.errors import ModelFileError, UnsupportedArchitectureError
from kvik.modelfile.checks import MAX_LAYERS, check_spec
from kvik.modelfile.fields import Fields
from kvik.modelfile.rope import parse_rope, read_rope
from kvik.modelfile.spec import ModelSpec, RopeSpec

_ACTIVATIONS: Final = {"silu": "silu", "swish": "silu", "gelu_pytorch_tanh": "gelu_tanh"}
_DTYPES: Final = ("bfloat16", "float16", "float32")


def parse_config(values: dict[str, Any], source: str) -> ModelSpec:
    """The spec of the model that config.json (`values`, read from `source`) describes.

    Raises UnsupportedArchitectureError for a model that is not implemented here, and ModelFileError for a missing or
    senseless field.
    """
    config = Fields(values, source)
    architecture = _choose_architecture(config)
    spec = _PARSERS[architecture](config, architecture)
    check_spec(spec, source)
    return spec


def _llama(config: Fields, architecture: str) -> ModelSpec:
    bias = config.read(bool, "attention_bias", False)
    return replace(
        _decoder(config, architecture, max_position_embeddings=2048),
        attention_bias=bias,
        attention_output_bias=bias,
        mlp_bias=config.read(bool, "mlp_bias", False),
        bos_token_id=_bos(config, 1),
        eos_token_ids=config.token_ids("eos_token_id", (2,)),
    )


def _mistral(config: Fields, architecture: str) -> ModelSpec:
    window = _window(config, 4096)
    spec = _decoder(config, architecture, max_position_embeddings=131072, num_kv_heads=8)
    return replace(
        spec,
        sliding_windows=(window,) * spec.num_layers if window else (),
        bos_token_id=_bos(config, 1),
        eos_token_ids=config.token_ids("eos_token_id", (2,)),
    )


def _qwen2(config: Fields, architecture: str) -> ModelSpec:
    spec = _decoder(config, architecture, max_position_embeddings=32768, num_kv_heads=32)
    return replace(
        spec,
        attention_bias=True,
        sliding_windows=_qwen_windows(config, spec.num_layers),
        bos_token_id=_bos(config, None),
        eos_token_ids=config.token_ids("eos_token_id"),
    )


def _qwen3(config: Fields, architecture: str) -> ModelSpec:
    bias = config.read(bool, "attention_bias", False)
    return replace(
        _qwen2(config, architecture),
        head_dim=config.size("head_dim", 128),
        attention_bias=bias,
        attention_output_bias=bias,
    )


def _gemma3(config: Fields, architecture: str) -> ModelSpec:
    for name in ("attn_logit_softcapping", "final_logit_softcapping", "use_bidirectional_attention"):
        if config.values.get(name):
            raise config.error(name, f"is {config.values[name]!r}; only models without it can be run")
    num_layers = config.size("num_hidden_layers", 26, largest=MAX_LAYERS)
    max_positions = config.size("max_position_embeddings", 131_072)
    rope, local_rope = _gemma3_ropes(config, max_positions)
    bias = config.read(bool, "attention_bias", False)
    return ModelSpec(
        architecture="Gemma3ForCausalLM",
        vocab_size=config.size("vocab_size", 262_208),
        hidden_size=config.size("hidden_size", 2304),
        intermediate_size=config.size("intermediate_size", 9216),
        num_layers=num_layers,
        num_heads=config.size("num_attention_heads", 8),
        num_kv_heads=config.size("num_key_value_heads", 4),
        head_dim=config.size("head_dim", 256),
        max_position_embeddings=max_positions,
        rms_norm_eps=config.positive("rms_norm_eps", 1e-6),
        rope=rope,
        local_rope=local_rope,
        activation=_activation(config, "hidden_activation", "gelu_pytorch_tanh"),
        tie_word_embeddings=config.read(bool, "tie_word_embeddings", True),
        attention_bias=bias,
        attention_output_bias=bias,
        query_scale=config.positive("query_pre_attn_scalar", 256.0) ** -0.5,
        sliding_windows=_gemma3_windows(config, num_layers),
        dtype=_dtype(config),
        bos_token_id=_bos(config, 2),
        eos_token_ids=config.token_ids("eos_token_id", (1,)),
    )


def _gemma3_multimodal(config: Fields, _architecture: str) -> ModelSpec:
    """The text model inside. What the outer object says of dtype, tying and token ids wins."""
    outer = ("dtype", "torch_dtype", "tie_word_embeddings", "bos_token_id", "eos_token_id")
    text = config.nested("text_config")
    values = {**text.values, **{name: config.values[name] for name in outer if config.values.get(name) is not None}}
    return _gemma3(Fields(values, text.source), "Gemma3ForCausalLM")


def _decoder(
    config: Fields, architecture: str, max_position_embeddings: int, num_kv_heads: int | None = None
) -> ModelSpec:
    """What the Llama family has in common. `num_kv_heads` is the class's default; null means one per query head."""
    hidden_size, num_heads = config.size("hidden_size"), config.size("num_attention_heads")
    if "head_dim" not in config and hidden_size % num_heads and architecture != "Qwen3ForCausalLM":
        raise config.error("hidden_size", f"is {hidden_size}, no multiple of num_attention_heads, {num_heads}")
    if "num_key_value_heads" in config.values or num_kv_heads is None:
        num_kv_heads = config.size("num_key_value_heads", num_heads)
    max_positions = config.size("max_position_embeddings", max_position_embeddings)
    return ModelSpec(
        architecture=architecture,
        vocab_size=config.size("vocab_size"),
        hidden_size=hidden_size,
        intermediate_size=config.size("intermediate_size"),
        num_layers=config.size("num_hidden_layers", largest=MAX_LAYERS),
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=config.size("head_dim", max(1, hidden_size // num_heads)),
        max_position_embeddings=max_positions,
        rms_norm_eps=config.positive("rms_norm_eps", 1e-6),
        rope=read_rope(config, max_positions),
        activation=_activation(config, "hidden_act", "silu"),
        tie_word_embeddings=config.read(bool, "tie_word_embeddings", False),
        dtype=_dtype(config),
    )


def _qwen_windows(config: Fields, num_layers: int) -> tuple[int, ...]:
    window = _window(config, 4096) if config.read(bool, "use_sliding_window", False) else 0
    if "layer_types" in config:
        return _windows_by_type(config, num_layers, window)
    first = config.read(int, "max_window_layers", 28)
    return tuple(window if layer >= first else 0 for layer in range(num_layers)) if window else ()


def _gemma3_windows(config: Fields, num_layers: int) -> tuple[int, ...]:
    window = _window(config, 4096)
    if "layer_types" in config:
        return _windows_by_type(config, num_layers, window)
    name = "sliding_window_pattern" if "sliding_window_pattern" in config else "_sliding_window_pattern"
    pattern = config.size(name, 6)
    return tuple(window if (layer + 1) % pattern else 0 for layer in range(num_layers))


def _windows_by_type(config: Fields, num_layers: int, window: int) -> tuple[int, ...]:
    """One window per layer from `layer_types`; `window` 0 is none."""
    types = config.read(list, "layer_types")
    if len(types) != num_layers:
        raise config.error("layer_types", f"has {len(types)} entries for {num_layers} layers")
    for layer_type in types:
        if layer_type not in ("full_attention", "sliding_attention"):
            raise config.error("layer_types", f"has {layer_type!r}; known are full_attention and sliding_attention")
    if "sliding_attention" not in types:
        return ()
    if not window:
        raise config.error("layer_types", "has sliding_attention, but no sliding_window is in use")
    return tuple(window if layer_type == "sliding_attention" else 0 for layer_type in types)


def _gemma3_ropes(config: Fields, max_positions: int) -> tuple[RopeSpec, RopeSpec]:
    """Rotary embeddings of full and of sliding layers. The old `rope_scaling` stretches the full ones only."""
    theta, local_theta = config.positive("rope_theta", 1e6), config.positive("rope_local_base_freq", 10_000.0)
    by_type = config.read(dict, "rope_parameters", {})
    if by_type and not by_type.keys() & {"full_attention", "sliding_attention"}:
        raise config.error("rope_parameters", "must have full_attention and sliding_attention, one object each")
    full, sliding = (by_type.get(name) or {} for name in ("full_attention", "sliding_attention"))
    if not (isinstance(full, dict) and isinstance(sliding, dict)):
        raise config.error("rope_parameters", "must have an object in full_attention and in sliding_attention")
    full = {**full, **config.read(dict, "rope_scaling", {})}
    return (
        parse_rope(config, "rope_parameters", full, theta, max_positions),
        parse_rope(config, "rope_parameters", sliding, local_theta, max_positions),
    )


def _window(config: Fields, default: int) -> int:
    """`sliding_window` in tokens; 0 for null."""
    return 0 if config.read_nullable(int, "sliding_window", default) is None else config.size("sliding_window", default)


def _activation(config: Fields, name: str, default: str) -> str:
    activation = config.read(str, name, default)
    if activation not in _ACTIVATIONS:
        raise config.error(name, f"is {activation!r}; known are {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[activation]


def _dtype(config: Fields) -> str:
    """As saved under `dtype`, once `torch_dtype`; float32, torch's default, when the config is silent."""
    name = "dtype" if "dtype" in config else "torch_dtype"
    dtype = config.read(str, name, "float32").removeprefix("torch.")
    if dtype not in _DTYPES:
        raise config.error(name, f"is {dtype!r}; known are {', '.join(_DTYPES)}")
    return dtype


def _bos(config: Fields, default: int | None) -> int | None:
    ids = config.token_ids("bos_token_id", () if default is None else (default,))
    return ids[0] if ids else None


def _choose_architecture(config: Fields) -> str:
    """The first supported name in `architectures`, or what `model_type` stands for when that list is absent."""
    names = config.read(list, "architectures", [])
    if not names and "model_type" in config:
        model_type = config.read(str, "model_type")
        names = [_BY_MODEL_TYPE.get(model_type, model_type)]
    for name in names:
        if name in SUPPORTED_ARCHITECTURES:
            return str(name)
    if not names:
        raise ModelFileError(f"{config.source} has neither 'architectures' nor 'model_type': not a model's config")
    raise UnsupportedArchitectureError(_unsupported_message(config, [str(name) for name in names]))


def _unsupported_message(config: Fields, names: list[str]) -> str:
    message = f"{config.source}: architecture {', '.join(names)} is not supported; supported are {_SUPPORTED_LIST}"
    nearest = get_close_matches(names[0], SUPPORTED_ARCHITECTURES, n=1)
    if nearest:
        message += f"; the nearest is {nearest[0]}"
    if "auto_map" in config:
        message += ". Its config names Python code of its own (auto_map); kvik never runs code from a model's folder"
    return message


_PARSERS: Final[dict[str, Callable[[Fields, str], ModelSpec]]] = {
    "LlamaForCausalLM": _llama,
    "MistralForCausalLM": _mistral,
    "Qwen2ForCausalLM": _qwen2,
    "Qwen3ForCausalLM": _qwen3,
    "Gemma3ForCausalLM": _gemma3,
    "Gemma3ForConditionalGeneration": _gemma3_multimodal,
}
_BY_MODEL_TYPE: Final = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
    "gemma3": "Gemma3ForConditionalGeneration",
}

SUPPORTED_ARCHITECTURES: Final[tuple[str, ...]] = tuple(_PARSERS)
_SUPPORTED_LIST: Final = ", ".join(SUPPORTED_ARCHITECTURES)
