"""Linear projections over packed weights. Knows no architecture: names and sizes are given."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from kvik.kernels.linear import linear
from kvik.layers.parameters import ParameterTable


class MergedLinear:
    """Several projections of one input, computed as one: x [T, K] -> their outputs side by side [T, sum of N]."""

    __slots__ = ("bias", "weight")

    def __init__(
        self, table: ParameterTable, prefix: str, parts: Mapping[str, int], num_inputs: int, *, bias: bool = False
    ) -> None:
        """`parts`: name of each projection below `prefix` -> its outputs, in the order of the result."""
        self.weight = table.packed({f"{prefix}.{part}.weight": n for part, n in parts.items()}, num_inputs)
        self.bias = table.vector({f"{prefix}.{part}.bias": n for part, n in parts.items()}) if bias else None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return linear(x, self.weight, self.bias)


class Linear(MergedLinear):
    """One projection: x [T, K] -> [T, N]."""

    __slots__ = ()

    def __init__(
        self, table: ParameterTable, name: str, num_outputs: int, num_inputs: int, *, bias: bool = False
    ) -> None:
        prefix, _, part = name.rpartition(".")
        super().__init__(table, prefix, {part: num_outputs}, num_inputs, bias=bias)
