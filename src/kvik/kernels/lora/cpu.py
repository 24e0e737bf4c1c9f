"""lora by `kvik._native`. Shapes and dtypes were checked by the caller."""

from __future__ import annotations

import torch

from kvik.kernels.arena import empty
from kvik.kernels.lora.slots import PANEL_ROWS, LoraSlots
from kvik.kernels.runtime import DTYPE_CODES, native


def lora(out: torch.Tensor, x: torch.Tensor, row_slots: torch.Tensor, slots: LoraSlots) -> None:
    x = x.contiguous()
    if out.stride(1) != 1 or not row_slots.is_contiguous():
        raise ValueError("lora: out must be contiguous in its rows, and row_slots altogether")
    num_parts, num_rows = len(slots.sizes), x.shape[0]
    shrunk = empty(num_rows, num_parts * -(-slots.max_rank // PANEL_ROWS) * PANEL_ROWS)
    native.lora(
        out.data_ptr(), out.stride(0), x.data_ptr(), shrunk.data_ptr(), slots.a.data_ptr(), slots.b.data_ptr(),
        row_slots.data_ptr(), slots.ranks.data_ptr(), slots.scales.data_ptr(), slots.columns.data_ptr(), num_rows,
        num_parts, slots.num_inputs, slots.max_rank, DTYPE_CODES[slots.dtype],
    )  # fmt: skip
