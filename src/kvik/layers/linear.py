"""Linear projections over packed weights. Knows no architecture: names and sizes are given.

Where several workers share a model, a merged projection's outputs are divided among them, and of a single one, which
follows it, the inputs: each computes a part of every output, and the sum of the parts is the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate, pairwise

import torch

from kvik.kernels.arena import empty_beside
from kvik.kernels.linear import linear
from kvik.layers.lora import LoraTarget
from kvik.layers.parameters import ParameterTable
from kvik.parallel.share import Share, even_share


class MergedLinear:
    """Several projections of one input, computed as one: x [T, K] -> their outputs side by side [T, sum of N].

    Parts of different formats (V beside Q and K in a Q4_K_M file) are several products into one output.
    """

    __slots__ = ("_columns", "_lora", "_num_outputs", "bias", "weights")

    def __init__(
        self,
        table: ParameterTable,
        prefix: str,
        parts: Mapping[str, int],
        num_inputs: int,
        *,
        bias: bool = False,
        unit: int = 1,
    ) -> None:
        """`parts`: name of each projection below `prefix` -> its outputs, in the order of the result, which this worker
        has in equal parts of whole units of `unit` outputs. Raises ValueError where they do not come out even."""
        group = table.group
        outputs = {part: even_share(n, group.rank, group.size, unit) for part, n in parts.items()}
        self._build(table, prefix, outputs, even_share(num_inputs, 0, 1), bias)

    def _build(
        self, table: ParameterTable, prefix: str, outputs: Mapping[str, Share], inputs: Share, bias: bool
    ) -> None:
        weights = {f"{prefix}.{part}.weight": share for part, share in outputs.items()}
        biases = {f"{prefix}.{part}.bias": share for part, share in outputs.items()}
        self.weights = table.packed(_sizes(weights), inputs.size, weights, inputs)
        self.bias = table.vector(_sizes(biases), biases) if bias else None
        self._columns = [0, *accumulate(weight.n for weight in self.weights)]
        self._num_outputs = self._columns[-1]
        self._lora = LoraTarget(prefix, outputs, inputs, table.device)
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
    """One projection: x [T, K] -> [T, N], where several workers share the model x [T, their part of K]."""

    __slots__ = ("_group",)

    def __init__(
        self,
        table: ParameterTable,
        name: str,
        num_outputs: int,
        num_inputs: int,
        *,
        bias: bool = False,
        unit: int = 1,
    ) -> None:
        """Inputs are divided in whole units of `unit`. The bias, which is added once, is the first worker's."""
        prefix, _, part = name.rpartition(".")
        group = self._group = table.group
        has_bias = bias and group.rank == 0
        if bias and not has_bias:
            table.unused.add(f"{name}.bias")
        inputs = even_share(num_inputs, group.rank, group.size, unit)
        self._build(table, prefix, {part: even_share(num_outputs, 0, 1)}, inputs, has_bias)

    def __call__(self, x: torch.Tensor, lora_slots: torch.Tensor | None = None) -> torch.Tensor:
        return self._group.sum(super().__call__(x, lora_slots))


def _sizes(shares: Mapping[str, Share]) -> dict[str, int]:
    return {name: share.size for name, share in shares.items()}
