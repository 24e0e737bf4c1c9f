"""rms_norm by `kvik._native`. Shapes and dtypes were checked by the caller."""

from __future__ import annotations

import torch

from kvik.kernels.arena import empty
from kvik.kernels.runtime import DTYPE_CODES, native


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float, unit_offset: bool) -> torch.Tensor:
    x, weight = x.contiguous(), weight.contiguous()
    rows, size = x.shape
    out = empty(rows, size, x.dtype)
    native.rms_norm(out.data_ptr(), x.data_ptr(), weight.data_ptr(), rows, size, eps, unit_offset, DTYPE_CODES[x.dtype])
    return out


def add_rms_norm(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float, unit_offset: bool
) -> torch.Tensor:
    x, weight = x.contiguous(), weight.contiguous()
    rows, size = x.shape
    out = empty(rows, size, x.dtype)
    native.add_rms_norm(
        out.data_ptr(),
        x.data_ptr(),
        residual.data_ptr(),
        weight.data_ptr(),
        rows,
        size,
        eps,
        unit_offset,
        DTYPE_CODES[x.dtype],
    )
    return out
