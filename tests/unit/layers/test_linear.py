"""Merged projections give the outputs of the separate ones, side by side."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kvik.layers.linear import Linear, MergedLinear
from kvik.layers.load import load_parameters
from kvik.layers.parameters import ParameterTable


@pytest.mark.parametrize("bias", [False, True])
def test_merged(checkpoint: Any, bias: bool) -> None:
    table = ParameterTable("TestForCausalLM", torch.float32)
    merged = MergedLinear(table, "layer", {"q": 24, "k": 7}, 32, bias=bias)
    plain = {name: torch.nn.Linear(32, n, bias=bias) for name, n in (("q", 24), ("k", 7))}
    tensors = {f"layer__{name}__{kind}": p for name, m in plain.items() for kind, p in m.state_dict().items()}
    load_parameters(table, checkpoint.add(**tensors))
    x = torch.randn(5, 32)
    with torch.no_grad():
        torch.testing.assert_close(merged(x), torch.cat([plain["q"](x), plain["k"](x)], dim=-1))


def test_single_is_named_whole(checkpoint: Any) -> None:
    table = ParameterTable("TestForCausalLM", torch.float32)
    Linear(table, "model.layers.0.mlp.down_proj", 8, 16, bias=True)
    assert {name: p.shape for name, p in table.by_name.items()} == {
        "model.layers.0.mlp.down_proj.weight": (8, 16),
        "model.layers.0.mlp.down_proj.bias": (8,),
    }
