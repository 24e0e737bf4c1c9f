"""What tensors of GGUF files are called by Hugging Face. Names only; reads no file."""

from __future__ import annotations

import re
from typing import Final

from kvik.errors import ModelFileError

_TOP: Final = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_LAYER: Final = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_GEMMA3_LAYER: Final = {
    **_LAYER,
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
ROPE_FREQS: Final = "rope_freqs.weight"
"""Llama 3.1 only, f32 [head_dim / 2]: what each rotary frequency is divided by. Hugging Face has no such tensor, so it
keeps its name."""
_NAME: Final = re.compile(r"(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)")


def hf_name(name: str, architecture: str, source: str) -> str:
    """Hugging Face's name of GGUF tensor `name`. Raises ModelFileError, naming `source`, where there is none."""
    if name == ROPE_FREQS and architecture == "LlamaForCausalLM":
        return name
    match = _NAME.fullmatch(name)
    if match:
        layer, part, kind = match.groups()
        names = _TOP if layer is None else _GEMMA3_LAYER if architecture == "Gemma3ForCausalLM" else _LAYER
        if part in names:
            return f"{names[part]}.{kind}" if layer is None else f"model.layers.{int(layer)}.{names[part]}.{kind}"
    raise ModelFileError(f"{source}: tensor {name!r} has no place in a {architecture}")
