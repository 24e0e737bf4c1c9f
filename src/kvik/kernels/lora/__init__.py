"""Adapters of low rank beside a linear layer (LoRA; Hu et al., 2021): a thin product for each row that has one.

y[row] += scale * (x[row] A^T) B^T with the A, B and scale of the row's adapter. Sums are fp32; a row's result does not
depend on the other rows or their adapters: each element of the first product is four chains over K added in one order,
each of the second one chain over the rank. Rows without an adapter keep their bits.

On a GPU x and out are fp32, bf16 or fp16, and so are the factors and the first product as they are multiplied; how sums
are cut follows from the sizes.
"""

from __future__ import annotations

import torch

from kvik.kernels.lazy import LazyModule
from kvik.kernels.lora import cpu, reference
from kvik.kernels.lora.slots import LoraFactors, LoraSlots
from kvik.kernels.runtime import is_native

__all__ = ["LoraFactors", "LoraSlots", "lora"]

triton = LazyModule(f"{__name__}.triton")
_GPU_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def lora(out: torch.Tensor, x: torch.Tensor, row_slots: torch.Tensor, slots: LoraSlots) -> None:
    """Add to out [T, sum of N], in place, what the adapters of x's rows [T, K] make of them; both fp32 on a CPU.

    row_slots [T] int32: the slot of each row's adapter, below 0 for none. Raises ValueError on shapes and dtypes.
    """
    shape = (x.shape[0], slots.num_outputs)
    if x.dim() != 2 or x.shape[1] != slots.num_inputs or tuple(out.shape) != shape or row_slots.shape != x.shape[:1]:
        raise ValueError(
            f"lora: out is {list(out.shape)}, x {list(x.shape)} and row_slots {list(row_slots.shape)}; they must be "
            f"[T, {slots.num_outputs}], [T, {slots.num_inputs}] and [T]"
        )
    dtypes = _GPU_DTYPES if slots.is_for_gpu else (torch.float32,)
    if x.dtype not in dtypes or out.dtype is not x.dtype or row_slots.dtype is not torch.int32:
        wanted = " or ".join(map(str, dtypes))
        raise ValueError(
            f"lora: out is {out.dtype}, x {x.dtype} and row_slots {row_slots.dtype}; they must be {wanted}, the same, "
            f"and torch.int32"
        )
    if slots.is_for_gpu:
        triton.lora(out, x, row_slots, slots)
    elif is_native(x):
        cpu.lora(out, x, row_slots, slots)
    else:
        reference.lora(out, x, row_slots, slots)
