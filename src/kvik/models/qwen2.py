"""Qwen2 and Qwen2.5: Llama with biases on q, k and v, and on request a sliding window in the upper layers."""

from __future__ import annotations

from dataclasses import replace

from kvik.layers.norm import RMSNorm
from kvik.layers.parameters import ParameterTable
from kvik.layers.rotary import RotaryTable
from kvik.modelfile.spec import ModelSpec
from kvik.models.base import Model
from kvik.models.llama import LlamaDecoderLayer


class Qwen2ForCausalLM(Model):
    def __init__(self, spec: ModelSpec, table: ParameterTable, max_positions: int) -> None:
        spec = replace(spec, attention_bias=True, attention_output_bias=False)  # fixed; its configuration is silent
        rotary = RotaryTable(table, spec.rope, spec.head_dim, max_positions)
        layers = [
            LlamaDecoderLayer(spec, table, index, rotary, window=spec.sliding_window(index))
            for index in range(spec.num_layers)
        ]
        norm = RMSNorm(table, "model.norm", spec.hidden_size, spec.rms_norm_eps)
        super().__init__(spec, table, layers, norm)
