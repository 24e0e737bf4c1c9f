"""Rope tables are those of transformers, bit for bit."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch

from kvik.layers.parameters import ParameterTable
from kvik.layers.rotary import RotaryTable, inverse_frequencies
from kvik.modelfile.spec import Llama3RopeScaling, RopeSpec

LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 512}
CASES = [
    (RopeSpec(theta=10000.0), {"rope_type": "default", "rope_theta": 10000.0}),
    (RopeSpec(theta=1e6, linear_factor=8.0), {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0}),
    (
        RopeSpec(theta=500000.0, llama3=Llama3RopeScaling(**LLAMA3)),
        {"rope_type": "llama3", "rope_theta": 500000.0, **LLAMA3},
    ),
]


def reference(transformers: ModuleType, parameters: dict[str, Any], head_dim: int) -> torch.Tensor:
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    config = transformers.LlamaConfig(head_dim=head_dim, rope_parameters=parameters, max_position_embeddings=4096)
    positions = torch.arange(3000)[None]
    cos, sin = LlamaRotaryEmbedding(config)(torch.empty(0), positions)
    half = head_dim // 2
    return torch.cat([cos[0, :, :half], sin[0, :, :half]], dim=-1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("head_dim", [24, 64, 128])
@pytest.mark.parametrize(("rope", "parameters"), CASES, ids=["default", "linear", "llama3"])
def test_equals_transformers(
    transformers: ModuleType, rope: RopeSpec, parameters: dict[str, Any], head_dim: int, dtype: torch.dtype
) -> None:
    got = RotaryTable(ParameterTable("TestForCausalLM", dtype), rope, head_dim, 3000).cos_sin
    assert torch.equal(got, reference(transformers, parameters, head_dim))


def test_frequency_factors_of_gguf_are_llama3_scaling() -> None:
    """A GGUF file holds plain frequency / scaled frequency; applying it must give the scaled table, in place."""
    table = ParameterTable("TestForCausalLM", torch.float32)
    scaled = RopeSpec(theta=500000.0, llama3=Llama3RopeScaling(**LLAMA3))
    factors = inverse_frequencies(RopeSpec(theta=500000.0), 64) / inverse_frequencies(scaled, 64)
    rotary = RotaryTable(table, RopeSpec(theta=500000.0), 64, 100)
    held_by_a_layer = rotary.cos_sin
    rotary.apply_factors(factors)
    expected = RotaryTable(table, scaled, 64, 100).cos_sin
    torch.testing.assert_close(held_by_a_layer, expected, rtol=0, atol=1e-5)
