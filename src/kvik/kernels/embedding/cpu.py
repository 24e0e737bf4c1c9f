"""embedding by `kvik._native`. Shapes and dtypes were checked by the caller."""

from __future__ import annotations

import torch

from kvik.kernels.arena import empty
from kvik.kernels.linear.formats import code_of
from kvik.kernels.runtime import DTYPE_CODES, native


def embedding(
    ids: torch.Tensor,
    table: torch.Tensor,
    packed: bool,
    num_rows: int,
    size: int,
    format: str,
    dtype: torch.dtype,
    scale: float,
) -> torch.Tensor:
    ids = ids.contiguous()
    count = ids.shape[0]
    out = empty(count, size, dtype)
    bad = native.embedding(
        out.data_ptr(),
        table.data_ptr(),
        packed,
        num_rows,
        size,
        ids.data_ptr(),
        count,
        scale,
        DTYPE_CODES[dtype],
        code_of(format),
    )
    if bad >= 0:
        raise IndexError(f"ids[{bad}] is {int(ids[bad])}; it must lie in [0, {num_rows})")
    return out
