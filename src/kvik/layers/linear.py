"""Linear projections over packed weights. Knows no architecture: names and sizes are given."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate, pairwise

import torch

from kvik.kernels.arena import empty_beside
from kvik.kernels.linear import linear
from kvik.layers.lora import LoraTarget
from kvik.layers.parameters import ParameterTable


class MergedLinear:
    """Several projections of one input, computed as one: x [T, K] -> their outputs side by side [T, sum of N].

    Parts of different formats (V beside Q and K in a Q4_K_M file) are several products into one output.
    """

    __slots__ = ("_columns", "_lora", "_num_outputs", "bias", "weights")

    def __init__(
        self, table: ParameterTable, prefix: str, parts: Mapping[str, int], num_inputs: int, *, bias: bool = False
    ) -> None:
        """`parts`: name of each projection below `prefix` -> its outputs, in the order of the result."""
        self.weights = table.packed({f"{prefix}.{part}.weight": n for part, n in parts.items()}, num_inputs)
        self.bias = table.vector({f"{prefix}.{part}.bias": n for part, n in parts.items()}) if bias else None
        self._columns = [0, *accumulate(weight.n for weight in self.weights)]
        self._num_outputs = self._columns[-1]
        self._lora = LoraTarget(prefix, parts, num_inputs, table.device)
        table.lora_targets.append(self._lora)

    def __call__(self, x: torch.Tensor, lora_slots: torch.Tensor | None = None) -> torch.Tensor:
        """`lora_slots` [T] int32: the slot of each row's adapter, -1 for none; None: no row has one."""
        out = self._product(x)
        if lora_slots is not None:
            self._lora.add(out, x, lora_slots)
        return out

    def _product(self, x: torch.Tensor) -> torch.Tensor:
        if len(self.weights) == 1:
            return linear(x, self.weights[0], self.bias)
        out = empty_beside(x, self._num_outputs)
        for weight, (first, end) in zip(self.weights, pairwise(self._columns), strict=True):
            linear(x, weight, None if self.bias is None else self.bias[first:end], out, first)
        return out


class Linear(MergedLinear):
    """One projection: x [T, K] -> [T, N]."""

    __slots__ = ()

    def __init__(
        self, table: ParameterTable, name: str, num_outputs: int, num_inputs: int, *, bias: bool = False
    ) -> None:
        prefix, _, part = name.rpartition(".")
        super().__init__(table, prefix, {part: num_outputs}, num_inputs, bias=bias)
