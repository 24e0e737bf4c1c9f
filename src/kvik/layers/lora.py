"""Room beside a linear layer for adapters of low rank (LoRA). Knows no file and no request: slots are numbers.

A layer declares its target as it is built; nothing is reserved unless the model is told to (`Model.reserve_adapters`).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from kvik.kernels.lora import LoraFactors, LoraSlots, lora

__all__ = ["LoraFactors", "LoraTarget"]


class LoraTarget:
    """The projections of one merged layer, each of which an adapter may change."""

    __slots__ = ("_device", "_slots", "num_inputs", "prefix", "sizes")

    def __init__(
        self, prefix: str, sizes: Mapping[str, int], num_inputs: int, device: torch.device | str = "cpu"
    ) -> None:
        """`sizes`: outputs of each projection by its name below `prefix`, in the order of the merged result."""
        self.prefix = prefix
        self.sizes = dict(sizes)
        self.num_inputs = num_inputs
        self._device = device
        self._slots: LoraSlots | None = None

    @property
    def names(self) -> list[str]:
        """Full names of the projections: "model.layers.0.self_attn.q_proj"."""
        return [f"{self.prefix}.{part}" for part in self.sizes]

    @property
    def num_bytes(self) -> int:
        return 0 if self._slots is None else self._slots.nbytes

    def reserve(self, num_slots: int, max_rank: int, dtype: torch.dtype) -> None:
        """Make room for `num_slots` adapters of rank `max_rank` at most, kept in `dtype`."""
        self._slots = LoraSlots(list(self.sizes.values()), self.num_inputs, num_slots, max_rank, dtype, self._device)

    def write(self, slot: int, factors: Mapping[str, LoraFactors]) -> None:
        """Put an adapter into a slot: its factors by full name, of which those of this target are taken."""
        assert self._slots is not None, "reserve() comes first"
        for part, name in enumerate(self.names):
            self._slots.write(slot, part, factors.get(name))

    def add(self, out: torch.Tensor, x: torch.Tensor, row_slots: torch.Tensor) -> None:
        """out [T, sum of N] += what the adapters of the rows x [T, K] make of them; slots below 0 have none."""
        assert self._slots is not None, "reserve() comes first"
        lora(out, x, row_slots, self._slots)
