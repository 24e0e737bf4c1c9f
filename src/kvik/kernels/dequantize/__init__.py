"""Raw bytes of a GGUF tensor -> plain elements. Knows the block formats, not the file.

A format cuts each row into blocks of a fixed number of elements, each with its own scale; see ggml's quantisation
sources for their layout. Values are formed in fp32, then rounded to the dtype asked for.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from kvik.kernels.dequantize import cpu, reference
from kvik.kernels.runtime import is_native

__all__ = ["FORMATS", "BlockFormat", "dequantize"]


class BlockFormat(NamedTuple):
    code: int  # the native kernel's numbering
    block_size: int  # elements
    block_bytes: int


FORMATS = {
    "f32": BlockFormat(0, 1, 4),
    "f16": BlockFormat(1, 1, 2),
    "bf16": BlockFormat(2, 1, 2),
    "q4_0": BlockFormat(3, 32, 18),
    "q4_1": BlockFormat(4, 32, 20),
    "q5_0": BlockFormat(5, 32, 22),
    "q5_1": BlockFormat(6, 32, 24),
    "q8_0": BlockFormat(7, 32, 34),
    "q4_k": BlockFormat(8, 256, 144),
    "q5_k": BlockFormat(9, 256, 176),
    "q6_k": BlockFormat(10, 256, 210),
}


def dequantize(data: torch.Tensor, fmt: str, rows: int, cols: int, dtype: torch.dtype) -> torch.Tensor:
    """data [bytes] uint8 in a format of FORMATS -> [rows, cols] bf16 or fp32.

    Raises ValueError for an unknown format or dtype, columns that are no whole blocks, or a wrong number of bytes.
    """
    found = FORMATS.get(fmt)
    if found is None:
        raise ValueError(f"dequantize: the format is {fmt!r}; it must be one of {', '.join(FORMATS)}")
    if dtype not in (torch.float32, torch.bfloat16):
        raise ValueError(f"dequantize: the dtype is {dtype}; it must be torch.float32 or torch.bfloat16")
    num_blocks = _num_blocks(data, fmt, found, rows, cols)
    if is_native(data):
        return cpu.dequantize(data, found.code, num_blocks, rows, cols, dtype)
    return reference.dequantize(data, fmt, num_blocks, dtype).view(rows, cols)


def _num_blocks(data: torch.Tensor, fmt: str, found: BlockFormat, rows: int, cols: int) -> int:
    if rows < 0 or cols < 0 or cols % found.block_size:
        raise ValueError(
            f"dequantize: {rows} rows of {cols} elements are no whole blocks; {fmt} has blocks of {found.block_size}"
        )
    num_blocks = rows * (cols // found.block_size)
    if data.dim() != 1 or data.dtype is not torch.uint8 or data.shape[0] != num_blocks * found.block_bytes:
        raise ValueError(
            f"dequantize: data is {list(data.shape)} {data.dtype}; {rows} x {cols} elements of {fmt} are "
            f"[{num_blocks * found.block_bytes}] torch.uint8"
        )
    return num_blocks
