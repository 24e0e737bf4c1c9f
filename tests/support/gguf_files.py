"""Writes small GGUF files with the reference writer, for the tests of the rooms that read them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFValueType, GGUFWriter
from gguf.quants import quantize

HIDDEN, HEADS, KV_HEADS, HEAD_DIM, INTERMEDIATE, LAYERS, VOCAB = 64, 4, 2, 16, 96, 2, 300

_TYPES = {bool: GGUFValueType.BOOL, int: GGUFValueType.UINT32, float: GGUFValueType.FLOAT32, str: GGUFValueType.STRING}


def write_gguf(
    path: Path,
    metadata: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    quantized: Mapping[str, str] | None = None,
) -> Path:
    """Write float arrays as f32, or as the format that `quantized` names for them, which bytes (uint8, a row of blocks
    each) have already. None leaves a key out."""
    writer = GGUFWriter(path, metadata["general.architecture"])
    for key, value in metadata.items():
        if isinstance(value, list):
            writer.add_array(key, value)
        elif value is not None and key != "general.architecture":
            writer.add_key_value(key, value, _TYPES[type(value)])
    for name, values in tensors.items():
        kind = GGMLQuantizationType[(quantized or {}).get(name, "f32").upper()]
        is_stored = kind == GGMLQuantizationType.F32 or values.dtype == np.uint8
        stored = values if is_stored else quantize(values, kind)
        writer.add_tensor(name, stored, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def decoder_metadata(architecture: str = "llama", **changes: Any) -> dict[str, Any]:
    """Of a model with the sizes above. `changes` are named without the architecture; "__" stands for "."."""
    prefixed = {
        "context_length": 128,
        "embedding_length": HIDDEN,
        "block_count": LAYERS,
        "feed_forward_length": INTERMEDIATE,
        "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.freq_base": 10000.0,
    } | {name.replace("__", "."): value for name, value in changes.items()}
    return {"general.architecture": architecture, **{f"{architecture}.{key}": v for key, v in prefixed.items()}}


def decoder_tensors(architecture: str = "llama", *, tied: bool = False, seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights of that model, under GGUF's names."""
    rng = np.random.default_rng(seed)

    def weight(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, dtype=np.float32)

    tensors = {"token_embd.weight": weight(VOCAB, HIDDEN), "output_norm.weight": weight(HIDDEN)}
    if not tied:
        tensors["output.weight"] = weight(VOCAB, HIDDEN)
    for layer in range(LAYERS):
        block = {
            "attn_norm": weight(HIDDEN),
            "attn_q": weight(HEADS * HEAD_DIM, HIDDEN),
            "attn_k": weight(KV_HEADS * HEAD_DIM, HIDDEN),
            "attn_v": weight(KV_HEADS * HEAD_DIM, HIDDEN),
            "attn_output": weight(HIDDEN, HEADS * HEAD_DIM),
            "ffn_norm": weight(HIDDEN),
            "ffn_gate": weight(INTERMEDIATE, HIDDEN),
            "ffn_up": weight(INTERMEDIATE, HIDDEN),
            "ffn_down": weight(HIDDEN, INTERMEDIATE),
        }
        if architecture in ("qwen3", "gemma3"):
            block |= {"attn_q_norm": weight(HEAD_DIM), "attn_k_norm": weight(HEAD_DIM)}
        if architecture == "gemma3":
            block |= {"post_attention_norm": weight(HIDDEN), "post_ffw_norm": weight(HIDDEN)}
        tensors |= {f"blk.{layer}.{name}.weight": values for name, values in block.items()}
        if architecture == "qwen2":
            for name, size in (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS)):
                tensors[f"blk.{layer}.attn_{name}.bias"] = weight(size * HEAD_DIM)
    return tensors
