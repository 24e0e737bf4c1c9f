"""A weight [N, K] in the order in which the product reads it. Knows no model and no file.

For the native kernels: panels of 16 output rows, laid out as csrc/packed.h (floats), csrc/packed_q16.h and
csrc/packed_blocks.h (quantised formats) say; N is padded to 16 with zeros. On a GPU floats are the plain matrix, and a
quantised format lies as `gpu_layout` says. 8-bit floats lie as `fp8_layout` says, wherever. Anywhere else (another
dtype, no native build) it is the plain matrix, of a quantised format its GGUF blocks.
"""

from __future__ import annotations

import torch

from kvik.kernels.dequantize import FORMATS as BLOCK_FORMATS
from kvik.kernels.dequantize import dequantize
from kvik.kernels.linear import cpu, fp8_layout, reference
from kvik.kernels.linear.formats import (
    FIXED_POINT,
    FLOAT_FORMATS,
    PACKED_FLOATS,
    QUANTIZED,
    format_of,
    require_taken,
)
from kvik.kernels.linear.fp8_layout import FP8_FORMATS, FP8_FROM_FLOATS
from kvik.kernels.linear.gpu_layout import blocks_of, layout_of, rows_of
from kvik.kernels.quantize import FORMATS as FROM_FLOATS
from kvik.kernels.quantize import quantize
from kvik.kernels.runtime import DTYPE_CODES, is_gpu, packs


class PackedWeight:
    """Made by `allocate` with zeros, filled by `fill_rows` or `fill_blocks` a tensor at a time, read by `linear` and
    `embedding`."""

    __slots__ = ("data", "dtype", "format", "input_scale", "is_for_gpu", "is_packed", "k", "n")

    def __init__(
        self,
        n: int,
        k: int,
        format: str,
        data: torch.Tensor,
        is_packed: bool,
        is_for_gpu: bool = False,
        input_scale: torch.Tensor | None = None,
    ) -> None:
        self.n = n  # output rows
        self.k = k  # input elements of each
        self.format = format  # as GGUF names it, in lower case
        self.dtype = FLOAT_FORMATS.get(format)  # of a float format, else None
        self.data = data  # packed: [panels, ...]; else [N, K], or uint8 [N, bytes of a row] of a quantised format
        self.is_packed = is_packed  # for the native kernels
        self.is_for_gpu = is_for_gpu  # quantised, as gpu_layout has it
        self.input_scale = input_scale  # fp32 [1], of "fp8_static" alone: the largest that any row came with

    @classmethod
    def allocate(cls, n: int, k: int, format: str | torch.dtype, device: torch.device | str = "cpu") -> PackedWeight:
        """A weight of zeros. On a CPU its pages are not backed by memory before they are written.

        `format`: "f32", "bf16" (or their dtype), "q16", "q8_0", "q4_0", "q4_1", "q4_k", "q6_k" or one of FP8_FORMATS;
        "f16" and "f64" stay plain.
        Raises ValueError for others, or for a K that the format does not take; see `takes`.
        """
        name = format_of(format)
        if n < 1 or k < 1:
            raise ValueError(f"a weight of {n} x {k} cannot be packed; both sizes must be at least 1")
        require_taken(name, k)
        if packs(device) and (name in QUANTIZED or name in PACKED_FLOATS or name == FIXED_POINT):
            return cls(n, k, name, cpu.allocate(n, k, name), True)
        if name == FIXED_POINT:
            raise ValueError(f"a weight on {device} cannot be stored as {name}, a format of the CPU's; take bf16")
        if name in FP8_FORMATS:
            rows = torch.zeros(n, fp8_layout.row_bytes(name, k), dtype=torch.uint8, device=device)
            has_fixed_scale = FP8_FORMATS[name].inputs == "tensor"
            input_scale = torch.zeros(1, dtype=torch.float32, device=device) if has_fixed_scale else None
            return cls(n, k, name, rows, False, input_scale=input_scale)
        if name in QUANTIZED:
            row_bytes = layout_of(name, k).row_bytes if is_gpu(device) else _row_bytes(name, k)
            blocks = torch.zeros(n, row_bytes, dtype=torch.uint8, device=device)
            return cls(n, k, name, blocks, False, is_gpu(device))
        return cls(n, k, name, torch.zeros(n, k, dtype=FLOAT_FORMATS[name], device=device), False)

    @property
    def is_fp8(self) -> bool:
        return self.format in FP8_FORMATS

    @property
    def has_blocks(self) -> bool:
        """Whether it is filled with rows as they are stored, by `fill_blocks`."""
        return self.format in QUANTIZED or self.is_fp8

    @property
    def nbytes(self) -> int:
        """Bytes of the data, padding included."""
        return self.data.nbytes

    def fill_rows(self, first_row: int, weight: torch.Tensor) -> None:
        """Rows [first_row, first_row + r) become weight [r, K], rounded to this format. Any float dtype, any r.

        Raises ValueError on shapes, and for formats that are read from files only: q4_k, q6_k, and 8-bit floats with
        scales for squares or for inputs.
        """
        if weight.dim() != 2 or weight.shape[1] != self.k or not weight.is_floating_point():
            raise ValueError(
                f"fill_rows: weight is {list(weight.shape)} {weight.dtype}; it must be [rows, {self.k}] of floats"
            )
        end_row = self._end_row("fill_rows", first_row, weight.shape[0])
        if self.has_blocks:
            if self.format not in (*FROM_FLOATS, *FP8_FROM_FLOATS):
                raise ValueError(
                    f"fill_rows: {self.format} is not made from floats; take one of "
                    f"{', '.join((*FROM_FLOATS, *FP8_FROM_FLOATS))}, or give its blocks to fill_blocks"
                )
            blocks = fp8_layout.rows_from(weight) if self.is_fp8 else quantize(weight, self.format)
            self.fill_blocks(first_row, blocks)
        elif not self.is_packed:
            self.data[first_row:end_row].copy_(weight)
        elif weight.numel():
            source = weight.cpu()
            cpu.pack_rows(self, first_row, source if source.dtype in DTYPE_CODES else source.float())

    def fill_blocks(self, first_row: int, blocks: torch.Tensor) -> None:
        """Rows [first_row, first_row + r) become blocks uint8 [r, bytes of a row], this format's blocks as in GGUF, or
        8-bit floats and their scales as `fp8_layout.join` gives them.

        Nothing is lost or rounded. Raises ValueError on shapes, or for a float format.
        """
        if not self.has_blocks:
            raise ValueError(f"fill_blocks: the weight is {self.format}, which has no blocks; use fill_rows")
        row_bytes = _row_bytes(self.format, self.k)
        if blocks.dim() != 2 or blocks.shape[1] != row_bytes or blocks.dtype is not torch.uint8:
            raise ValueError(
                f"fill_blocks: blocks are {list(blocks.shape)} {blocks.dtype}; rows of {self.k} elements of "
                f"{self.format} are [rows, {row_bytes}] torch.uint8"
            )
        end_row = self._end_row("fill_blocks", first_row, blocks.shape[0])
        if self.is_fp8:
            self._fill_fp8(first_row, end_row, blocks.to(self.data.device))
        elif self.is_for_gpu:
            self.data[first_row:end_row] = rows_of(blocks.to(self.data.device), self.format, self.k)
        elif not self.is_packed:
            self.data[first_row:end_row].copy_(blocks)
        elif blocks.numel():
            cpu.pack_blocks(self, first_row, blocks.cpu())

    def _fill_fp8(self, first_row: int, end_row: int, rows: torch.Tensor) -> None:
        self.data[first_row:end_row] = fp8_layout.padded(rows, self.format, self.k)
        if self.input_scale is not None and len(rows):
            of_inputs = fp8_layout.split(rows, self.format, self.k)[1][:, -1]
            torch.maximum(self.input_scale, of_inputs.max(), out=self.input_scale)

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        """Rows by id [R] integer -> [R, K] in the format's dtype, fp32 of q16 and quantised ones.

        Raises IndexError for an id outside [0, N).
        """
        if ids.dim() != 1 or ids.is_floating_point():
            raise ValueError(f"rows: ids are {list(ids.shape)} {ids.dtype}; they must be [R] of an integer dtype")
        if self.is_packed:
            return cpu.gather_rows(self, ids.cpu())
        rows = reference.gather_rows(self.data, ids)
        if self.is_fp8:
            return fp8_layout.values_of(rows, self.format, self.k)
        if self.format not in QUANTIZED:
            return rows
        blocks = blocks_of(rows, self.format, self.k) if self.is_for_gpu else rows
        return dequantize(blocks.flatten(), self.format, rows.shape[0], self.k, torch.float32)

    def plain(self) -> torch.Tensor:
        """The whole matrix [N, K] in the dtype of `rows`."""
        if not self.is_packed and not self.has_blocks:
            return self.data
        return self.rows(torch.arange(self.n, device=self.data.device))

    def _end_row(self, what: str, first_row: int, num_rows: int) -> int:
        end_row = first_row + num_rows
        if first_row < 0 or end_row > self.n:
            raise ValueError(f"{what}: rows [{first_row}, {end_row}) do not lie in [0, {self.n})")
        return end_row


def _row_bytes(format: str, k: int) -> int:
    if format in FP8_FORMATS:
        return fp8_layout.block_bytes(format, k)
    block = BLOCK_FORMATS[format]
    return k // block.block_size * block.block_bytes
