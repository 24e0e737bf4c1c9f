"""Adapters of low rank beside a linear layer (LoRA; Hu et al., 2021): a thin product for each row that has one.

y[row] += scale * (x[row] A^T) B^T with the A, B and scale of the row's adapter. Sums are fp32; a row's result does not
depend on the other rows or their adapters: each element of the first product is four chains over K added in one order,
each of the second one chain over the rank. Rows without an adapter keep their bits.
"""

from __future__ import annotations

import torch

from kvik.kernels.lora import cpu, reference
from kvik.kernels.lora.slots import LoraFactors, LoraSlots
from kvik.kernels.runtime import native

__all__ = ["LoraFactors", "LoraSlots", "lora"]


def lora(out: torch.Tensor, x: torch.Tensor, row_slots: torch.Tensor, slots: LoraSlots) -> None:
    """Add to out [T, sum of N] fp32, in place, what the adapters of x's rows [T, K] fp32 make of them.

    row_slots [T] int32: the slot of each row's adapter, below 0 for none. Raises ValueError on shapes and dtypes.
    """
    shape = (x.shape[0], slots.num_outputs)
    if x.dim() != 2 or x.shape[1] != slots.num_inputs or tuple(out.shape) != shape or row_slots.shape != x.shape[:1]:
        raise ValueError(
            f"lora: out is {list(out.shape)}, x {list(x.shape)} and row_slots {list(row_slots.shape)}; they must be "
            f"[T, {slots.num_outputs}], [T, {slots.num_inputs}] and [T]"
        )
    if x.dtype is not torch.float32 or out.dtype is not torch.float32 or row_slots.dtype is not torch.int32:
        raise ValueError(
            f"lora: out is {out.dtype}, x {x.dtype} and row_slots {row_slots.dtype}; they must be fp32, fp32 and int32"
        )
    if native is not None and x.is_cpu:
        cpu.lora(out, x, row_slots, slots)
    else:
        reference.lora(out, x, row_slots, slots)
