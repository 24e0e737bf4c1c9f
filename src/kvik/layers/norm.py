"""Root-mean-square norm, alone or fused with the residual sum before it."""

from __future__ import annotations

import torch

from kvik.kernels.rms_norm import add_rms_norm, rms_norm
from kvik.layers.parameters import ParameterTable


class RMSNorm:
    """x / rms(x) times the weight, or times (1 + weight) with `unit_offset` (Gemma)."""

    __slots__ = ("eps", "unit_offset", "weight")

    def __init__(
        self, table: ParameterTable, name: str, num_features: int, eps: float, *, unit_offset: bool = False
    ) -> None:
        self.weight = table.vector({f"{name}.weight": num_features})
        self.eps = eps
        self.unit_offset = unit_offset

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """x [T, H] -> [T, H]."""
        return rms_norm(x, self.weight, self.eps, unit_offset=self.unit_offset)

    def add(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """residual += x, in place; the norm of the sum is returned. All [T, H]."""
        return add_rms_norm(x, residual, self.weight, self.eps, unit_offset=self.unit_offset)
