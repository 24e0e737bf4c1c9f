"""quantize by `kvik._native`. Format and sizes were checked by the caller."""

from __future__ import annotations

import torch

from kvik.kernels.runtime import native


def quantize(values: torch.Tensor, code: int, num_blocks: int, block_bytes: int) -> torch.Tensor:
    """values fp32 -> uint8 [blocks, bytes of a block]."""
    values = values.contiguous()
    out = torch.empty((num_blocks, block_bytes), dtype=torch.uint8)
    native.quantize(out.data_ptr(), values.data_ptr(), code, num_blocks)
    return out
