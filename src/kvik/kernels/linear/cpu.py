"""linear by `kvik._native`. Shapes, dtypes and bounds of rows were checked by the caller."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from kvik.kernels.arena import empty
from kvik.kernels.runtime import DTYPE_CODES, native

if TYPE_CHECKING:
    from kvik.kernels.linear.packed_weight import PackedWeight


def linear(x: torch.Tensor, weight: PackedWeight, bias: torch.Tensor | None) -> torch.Tensor:
    x = x.contiguous()
    rows, n = x.shape[0], weight.n
    out = empty(rows, n)
    bias = None if bias is None else bias.contiguous()
    native.linear(
        out.data_ptr(),
        x.data_ptr(),
        weight.data.data_ptr(),
        0 if bias is None else bias.data_ptr(),
        rows,
        n,
        weight.k,
        DTYPE_CODES[weight.dtype],
    )
    return out


def pack_rows(weight: PackedWeight, first_row: int, rows: torch.Tensor) -> None:
    rows = rows.contiguous()
    native.pack_rows(
        weight.data.data_ptr(),
        weight.k,
        first_row,
        rows.data_ptr(),
        rows.shape[0],
        DTYPE_CODES[weight.dtype],
        DTYPE_CODES[rows.dtype],
    )


def gather_rows(weight: PackedWeight, ids: torch.Tensor) -> torch.Tensor:
    ids = ids.to(torch.int32).contiguous()
    out = torch.empty((ids.shape[0], weight.k), dtype=weight.dtype)
    code = DTYPE_CODES[weight.dtype]
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
