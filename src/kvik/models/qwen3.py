"""Qwen3 (dense): Llama with a norm on each head's query and key before they are rotated."""

from __future__ import annotations

from kvik.layers.norm import RMSNorm
from kvik.layers.parameters import ParameterTable
from kvik.layers.rotary import RotaryTable
from kvik.modelfile.spec import ModelSpec
from kvik.models.base import Model
from kvik.models.llama import LlamaDecoderLayer


class Qwen3ForCausalLM(Model):
    def __init__(self, spec: ModelSpec, table: ParameterTable, max_positions: int) -> None:
        rotary = RotaryTable(table, spec.rope, spec.head_dim, max_positions)
        layers = [_decoder_layer(spec, table, index, rotary) for index in range(spec.num_layers)]
        norm = RMSNorm(table, "model.norm", spec.hidden_size, spec.rms_norm_eps)
        super().__init__(spec, table, layers, norm)


def _decoder_layer(spec: ModelSpec, table: ParameterTable, index: int, rotary: RotaryTable) -> LlamaDecoderLayer:
    prefix = f"model.layers.{index}.self_attn"
    return LlamaDecoderLayer(
        spec,
        table,
        index,
        rotary,
        window=spec.sliding_window(index),
        q_norm=RMSNorm(table, f"{prefix}.q_norm", spec.head_dim, spec.rms_norm_eps),
        k_norm=RMSNorm(table, f"{prefix}.k_norm", spec.head_dim, spec.rms_norm_eps),
    )
