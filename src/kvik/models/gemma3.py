"""Gemma 3 (text): layers with a sliding window and a rope of their own between layers that see all.

Also unlike Llama: the embedding is scaled, norms multiply with one plus their weight, each block has a norm behind it
as well as before it, queries and keys are normed per head, and the MLP's gate is a tanh GELU.
"""

from __future__ import annotations

import torch

from kvik.layers.attention import Attention
from kvik.layers.batch import ForwardBatch
from kvik.layers.linear import Linear, MergedLinear
from kvik.layers.mlp import GatedMLP
from kvik.layers.norm import RMSNorm
from kvik.layers.parameters import ParameterTable
from kvik.layers.rotary import RotaryTable
from kvik.modelfile.spec import ModelSpec
from kvik.models.base import Model


class Gemma3ForCausalLM(Model):
    def __init__(self, spec: ModelSpec, table: ParameterTable, max_positions: int) -> None:
        rotary = RotaryTable(table, spec.rope, spec.head_dim, max_positions)
        local_rope = spec.local_rope or spec.rope
        local_rotary = RotaryTable(table, local_rope, spec.head_dim, max_positions)
        layers = [
            Gemma3DecoderLayer(spec, table, index, local_rotary if spec.sliding_window(index) else rotary)
            for index in range(spec.num_layers)
        ]
        norm = _norm(spec, table, "model.norm")
        super().__init__(spec, table, layers, norm, embedding_scale=spec.hidden_size**0.5)


class Gemma3DecoderLayer:
    """Attention, then a gated MLP, each between two norms."""

    def __init__(self, spec: ModelSpec, table: ParameterTable, index: int, rotary: RotaryTable) -> None:
        prefix = f"model.layers.{index}"
        hidden = spec.hidden_size
        q_size, kv_size = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
        self.input_norm = _norm(spec, table, f"{prefix}.input_layernorm")
        self.qkv_proj = MergedLinear(
            table,
            f"{prefix}.self_attn",
            {"q_proj": q_size, "k_proj": kv_size, "v_proj": kv_size},
            hidden,
            bias=spec.attention_bias,
            unit=spec.head_dim,
        )
        self.attention = Attention(
            spec,
            index,
            rotary,
            table,
            window=spec.sliding_window(index),
            q_norm=_norm(spec, table, f"{prefix}.self_attn.q_norm", spec.head_dim),
            k_norm=_norm(spec, table, f"{prefix}.self_attn.k_norm", spec.head_dim),
        )
        bias, unit = spec.attention_output_bias, spec.head_dim
        self.o_proj = Linear(table, f"{prefix}.self_attn.o_proj", hidden, q_size, bias=bias, unit=unit)
        self.post_attention_norm = _norm(spec, table, f"{prefix}.post_attention_layernorm")
        self.pre_mlp_norm = _norm(spec, table, f"{prefix}.pre_feedforward_layernorm")
        self.mlp = GatedMLP(table, f"{prefix}.mlp", spec)
        self.post_mlp_norm = _norm(spec, table, f"{prefix}.post_feedforward_layernorm")

    def forward(self, delta: torch.Tensor | None, residual: torch.Tensor, batch: ForwardBatch) -> torch.Tensor:
        x = self.input_norm(residual) if delta is None else self.input_norm.add(delta, residual)
        slots = batch.lora_slots
        x = self.post_attention_norm(self.o_proj(self.attention(self.qkv_proj(x, slots), batch), slots))
        return self.post_mlp_norm(self.mlp(self.pre_mlp_norm.add(x, residual), slots))


def _norm(spec: ModelSpec, table: ParameterTable, name: str, num_features: int | None = None) -> RMSNorm:
    return RMSNorm(table, name, num_features or spec.hidden_size, spec.rms_norm_eps, unit_offset=True)
