"""dequantize by `kvik._native`. Format and sizes were checked by the caller."""

from __future__ import annotations

import torch

from kvik.kernels.runtime import DTYPE_CODES, native


def dequantize(
    data: torch.Tensor, code: int, num_blocks: int, rows: int, cols: int, dtype: torch.dtype
) -> torch.Tensor:
    data = data.contiguous()
    out = torch.empty((rows, cols), dtype=dtype)
    native.dequantize(out.data_ptr(), data.data_ptr(), code, num_blocks, DTYPE_CODES[dtype])
    return out
