"""Floats -> blocks of a quantised GGUF format: the inverse of `dequantize`. Knows no file and no layer.

Each block of 32 is rounded on its own: q8_0 with the scale max |x| / 127, q4_0 and q4_1 with the scale (and minimum)
of the least squared error among those that a small search finds.
"""

from __future__ import annotations

import torch

from kvik.kernels.dequantize import FORMATS as BLOCK_FORMATS
from kvik.kernels.quantize import cpu, reference
from kvik.kernels.runtime import is_native

__all__ = ["FORMATS", "quantize"]

FORMATS = ("q8_0", "q4_0", "q4_1")


def quantize(values: torch.Tensor, format: str) -> torch.Tensor:
    """values [R, K] of a float dtype -> uint8 [R, bytes of a row]: the format's blocks as in GGUF.

    A block with a NaN or an infinity comes back as NaN. Raises ValueError for another format, or a K that is no
    whole blocks.
    """
    if format not in FORMATS:
        raise ValueError(f"quantize: the format is {format!r}; it must be one of {', '.join(FORMATS)}")
    block = BLOCK_FORMATS[format]
    if values.dim() != 2 or not values.is_floating_point() or values.shape[1] % block.block_size:
        raise ValueError(
            f"quantize: values are {list(values.shape)} {values.dtype}; {format} takes [rows, K] of floats, "
            f"K a multiple of {block.block_size}"
        )
    rows, k = values.shape
    row_bytes = k // block.block_size * block.block_bytes
    if not values.numel():
        return torch.empty(rows, row_bytes, dtype=torch.uint8, device=values.device)
    if is_native(values):
        num_blocks = rows * (k // block.block_size)
        return cpu.quantize(values.float(), block.code, num_blocks, block.block_bytes).view(rows, row_bytes)
    return reference.quantize(values.float(), format).view(rows, row_bytes)
