"""linear by `kvik._native`. Shapes, dtypes and bounds of rows were checked by the caller."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from kvik.kernels.linear.formats import FLOAT_FORMATS
from kvik.kernels.runtime import DTYPE_CODES, native

if TYPE_CHECKING:
    from kvik.kernels.linear.packed_weight import PackedWeight

PANEL_ROWS = 16


def allocate(n: int, k: int, format: str) -> torch.Tensor:
    """Zeroed memory of a packed weight: [panels, steps of K, 16, elements of a step]."""
    dtype = FLOAT_FORMATS[format]
    unit = 4 // dtype.itemsize
    shape = (-(-n // PANEL_ROWS), -(-k // unit), PANEL_ROWS, unit)
    data: torch.Tensor = native.allocate(shape[0] * shape[1] * PANEL_ROWS * 4)
    return data.view(dtype).view(shape)


def linear(out: torch.Tensor, x: torch.Tensor, weight: PackedWeight, bias: torch.Tensor | None) -> None:
    x = x.contiguous()
    direct = out.is_contiguous()
    target = out if direct else torch.empty(out.shape, dtype=torch.float32)
    bias = None if bias is None else bias.contiguous()
    native.linear(
        target.data_ptr(),
        x.data_ptr(),
        weight.data.data_ptr(),
        0 if bias is None else bias.data_ptr(),
        x.shape[0],
        weight.n,
        weight.k,
        DTYPE_CODES[weight.data.dtype],
    )
    if not direct:
        out.copy_(target)


def pack_rows(weight: PackedWeight, first_row: int, rows: torch.Tensor) -> None:
    rows = rows.contiguous()
    native.pack_rows(
        weight.data.data_ptr(),
        weight.k,
        first_row,
        rows.data_ptr(),
        rows.shape[0],
        DTYPE_CODES[weight.data.dtype],
        DTYPE_CODES[rows.dtype],
    )


def gather_rows(weight: PackedWeight, ids: torch.Tensor) -> torch.Tensor:
    ids = ids.to(torch.int32).contiguous()
    out = torch.empty((ids.shape[0], weight.k), dtype=weight.data.dtype)
    code = DTYPE_CODES[weight.data.dtype]
    bad = native.embedding(
        out.data_ptr(),
        weight.data.data_ptr(),
        True,
        weight.n,
        weight.k,
        ids.data_ptr(),
        ids.shape[0],
        1.0,
        code,
        code,
    )
    if bad >= 0:
        raise IndexError(f"ids[{bad}] is {int(ids[bad])}; it must lie in [0, {weight.n})")
    return out
