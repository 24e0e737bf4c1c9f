"""Llama 2 and 3, and all that calls itself so (SmolLM2, TinyLlama, ...)."""

from __future__ import annotations

import torch

from kvik.layers.attention import Attention
from kvik.layers.batch import ForwardBatch
from kvik.layers.linear import Linear, MergedLinear
from kvik.layers.mlp import GatedMLP
from kvik.layers.norm import RMSNorm
from kvik.layers.parameters import ParameterTable
from kvik.layers.rotary import FREQUENCY_FACTORS, RotaryTable
from kvik.modelfile.spec import ModelSpec
from kvik.models.base import Model


class LlamaForCausalLM(Model):
    """Grouped queries, rotary positions, gated SiLU; biases where the configuration says so."""

    def __init__(self, spec: ModelSpec, table: ParameterTable, max_positions: int) -> None:
        rotary = RotaryTable(table, spec.rope, spec.head_dim, max_positions)
        table.optional(FREQUENCY_FACTORS, spec.head_dim // 2, rotary.apply_factors)
        layers = [LlamaDecoderLayer(spec, table, index, rotary) for index in range(spec.num_layers)]
        norm = RMSNorm(table, "model.norm", spec.hidden_size, spec.rms_norm_eps)
        super().__init__(spec, table, layers, norm)


class LlamaDecoderLayer:
    """Attention, then a gated MLP, each behind a norm. Mistral, Qwen2 and Qwen3 use it with other arguments."""

    def __init__(
        self,
        spec: ModelSpec,
        table: ParameterTable,
        index: int,
        rotary: RotaryTable,
        *,
        window: int = 0,
        q_norm: RMSNorm | None = None,
        k_norm: RMSNorm | None = None,
    ) -> None:
        prefix = f"model.layers.{index}"
        hidden, eps = spec.hidden_size, spec.rms_norm_eps
        q_size, kv_size = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
        self.input_norm = RMSNorm(table, f"{prefix}.input_layernorm", hidden, eps)
        self.qkv_proj = MergedLinear(
            table,
            f"{prefix}.self_attn",
            {"q_proj": q_size, "k_proj": kv_size, "v_proj": kv_size},
            hidden,
            bias=spec.attention_bias,
            unit=spec.head_dim,
        )
        self.attention = Attention(spec, index, rotary, table, window=window, q_norm=q_norm, k_norm=k_norm)
        bias, unit = spec.attention_output_bias, spec.head_dim
        self.o_proj = Linear(table, f"{prefix}.self_attn.o_proj", hidden, q_size, bias=bias, unit=unit)
        self.post_attention_norm = RMSNorm(table, f"{prefix}.post_attention_layernorm", hidden, eps)
        self.mlp = GatedMLP(table, f"{prefix}.mlp", spec)

    def forward(self, delta: torch.Tensor | None, residual: torch.Tensor, batch: ForwardBatch) -> torch.Tensor:
        x = self.input_norm(residual) if delta is None else self.input_norm.add(delta, residual)
        x = self.o_proj(self.attention(self.qkv_proj(x, batch.lora_slots), batch), batch.lora_slots)
        return self.mlp(self.post_attention_norm.add(x, residual), batch.lora_slots)
