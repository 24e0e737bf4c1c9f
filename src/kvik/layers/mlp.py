"""Gated feed-forward block: down(activation(gate(x)) * up(x))."""

from __future__ import annotations

import torch

from kvik.kernels.gated_activation import gated_activation
from kvik.layers.linear import Linear, MergedLinear
from kvik.layers.parameters import ParameterTable
from kvik.modelfile.spec import ModelSpec


class GatedMLP:
    """x [T, H] -> [T, H] through `spec.intermediate_size` features; gate and up are one product."""

    __slots__ = ("activation", "down_proj", "gate_up_proj")

    def __init__(self, table: ParameterTable, prefix: str, spec: ModelSpec) -> None:
        hidden, inner = spec.hidden_size, spec.intermediate_size
        parts = {"gate_proj": inner, "up_proj": inner}
        self.gate_up_proj = MergedLinear(table, prefix, parts, hidden, bias=spec.mlp_bias)
        self.down_proj = Linear(table, f"{prefix}.down_proj", hidden, inner, bias=spec.mlp_bias)
        self.activation = spec.activation

    def __call__(self, x: torch.Tensor, lora_slots: torch.Tensor | None = None) -> torch.Tensor:
        return self.down_proj(gated_activation(self.gate_up_proj(x, lora_slots), self.activation), lora_slots)
