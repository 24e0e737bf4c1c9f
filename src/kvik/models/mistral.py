"""Mistral: Llama whose layers may see only a window of the last tokens (7B v0.1: 4096; later ones see all)."""

from __future__ import annotations

from kvik.layers.norm import RMSNorm
from kvik.layers.parameters import ParameterTable
from kvik.layers.rotary import RotaryTable
from kvik.modelfile.spec import ModelSpec
from kvik.models.base import Model
from kvik.models.llama import LlamaDecoderLayer


class MistralForCausalLM(Model):
    def __init__(self, spec: ModelSpec, table: ParameterTable, max_positions: int) -> None:
        rotary = RotaryTable(table, spec.rope, spec.head_dim, max_positions)
        layers = [
            LlamaDecoderLayer(spec, table, index, rotary, window=spec.sliding_window(index))
            for index in range(spec.num_layers)
        ]
        norm = RMSNorm(table, "model.norm", spec.hidden_size, spec.rms_norm_eps)
        super().__init__(spec, table, layers, norm)
