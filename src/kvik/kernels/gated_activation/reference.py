"""gated_activation in plain torch, for any device."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def gated_activation(x: torch.Tensor, kind: str) -> torch.Tensor:
    gate, up = x.chunk(2, dim=1)
    activated = F.silu(gate) if kind == "silu" else F.gelu(gate, approximate="tanh")
    return activated * up
