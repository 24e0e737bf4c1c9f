"""The gated feed-forward block against plain torch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from kvik.layers.load import load_parameters
from kvik.layers.mlp import GatedMLP
from kvik.layers.parameters import ParameterTable
from kvik.modelfile.spec import ModelSpec, RopeSpec


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("activation", ["silu", "gelu_tanh"])
def test_gate_up_down(checkpoint: Any, activation: str, bias: bool) -> None:
    spec = ModelSpec(
        architecture="TestForCausalLM",
        vocab_size=8,
        hidden_size=24,
        intermediate_size=40,
        num_layers=1,
        num_heads=2,
        num_kv_heads=2,
        head_dim=12,
        max_position_embeddings=8,
        rms_norm_eps=1e-5,
        rope=RopeSpec(theta=1e4),
        activation=activation,
        mlp_bias=bias,
    )
    table = ParameterTable("TestForCausalLM", torch.float32)
    mlp = GatedMLP(table, "mlp", spec)
    gate, up, down = (torch.nn.Linear(*shape, bias=bias) for shape in ((24, 40), (24, 40), (40, 24)))
    named = {"gate_proj": gate, "up_proj": up, "down_proj": down}
    tensors = {f"mlp__{name}__{kind}": p for name, m in named.items() for kind, p in m.state_dict().items()}
    load_parameters(table, checkpoint.add(**tensors))
    x = torch.randn(5, 24)
    activate = F.silu if activation == "silu" else lambda v: F.gelu(v, approximate="tanh")
    with torch.no_grad():
        torch.testing.assert_close(mlp(x), down(activate(gate(x)) * up(x)))
