"""lora in plain torch, for any device: adapter by adapter, part by part."""

from __future__ import annotations

from itertools import accumulate

import torch

from kvik.kernels.lora.slots import LoraSlots


def lora(out: torch.Tensor, x: torch.Tensor, row_slots: torch.Tensor, slots: LoraSlots) -> None:
    """The order of sums is torch's."""
    firsts = [0, *accumulate(slots.sizes)]
    for slot in sorted(set(row_slots.tolist()) - {-1}):
        rows = (row_slots == slot).nonzero()[:, 0]
        for part, size in enumerate(slots.sizes):
            factors = slots.read(slot, part)
            if factors is not None:
                added = (x[rows] @ factors.a.t() * factors.scale) @ factors.b.t()
                out[rows, firsts[part] : firsts[part] + size] += added
