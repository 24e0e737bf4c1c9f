"""A weight [N, K] in the order in which the product reads it. Knows no model and no file.

For the native kernels: panels of 16 output rows; in a panel, in ascending K, one element (fp32) or two consecutive
ones (bf16) of each row side by side, 64 bytes at a time; N padded to 16 and K to 2 with zeros. Anywhere else (another
device, another dtype, no native build) it is the plain matrix.
"""

from __future__ import annotations

import torch

from kvik.kernels.linear import cpu, reference
from kvik.kernels.runtime import DTYPE_CODES, native

PANEL_ROWS = 16


class PackedWeight:
    """Made by `allocate` with zeros, filled by `fill_rows` a tensor at a time, read by `linear` and `embedding`."""

    __slots__ = ("data", "dtype", "is_packed", "k", "n")

    def __init__(self, n: int, k: int, dtype: torch.dtype, data: torch.Tensor, is_packed: bool) -> None:
        self.n = n  # output rows
        self.k = k  # input elements of each
        self.dtype = dtype
        self.data = data  # packed: [panels, steps of K, 16, elements of a step]; else [N, K]
        self.is_packed = is_packed

    @classmethod
    def allocate(cls, n: int, k: int, dtype: torch.dtype, device: torch.device | str = "cpu") -> PackedWeight:
        """A weight of zeros. On a CPU its pages are not backed by memory before they are written."""
        if n < 1 or k < 1:
            raise ValueError(f"a weight of {n} x {k} cannot be packed; both sizes must be at least 1")
        if native is None or torch.device(device).type != "cpu" or dtype not in (torch.float32, torch.bfloat16):
            return cls(n, k, dtype, torch.zeros(n, k, dtype=dtype, device=device), False)
        unit = 4 // dtype.itemsize
        shape = (-(-n // PANEL_ROWS), -(-k // unit), PANEL_ROWS, unit)
        num_bytes = shape[0] * shape[1] * PANEL_ROWS * 4
        return cls(n, k, dtype, native.allocate(num_bytes).view(dtype).view(shape), True)

    @property
    def nbytes(self) -> int:
        """Bytes of the data, padding included."""
        return self.data.nbytes

    def fill_rows(self, first_row: int, weight: torch.Tensor) -> None:
        """Rows [first_row, first_row + r) become weight [r, K], rounded to this dtype. Any float dtype, any r."""
        if weight.dim() != 2 or weight.shape[1] != self.k or not weight.is_floating_point():
            raise ValueError(
                f"fill_rows: weight is {list(weight.shape)} {weight.dtype}; it must be [rows, {self.k}] of floats"
            )
        end_row = first_row + weight.shape[0]
        if first_row < 0 or end_row > self.n:
            raise ValueError(f"fill_rows: rows [{first_row}, {end_row}) do not lie in [0, {self.n})")
        if not self.is_packed:
            self.data[first_row:end_row].copy_(weight)
        elif weight.numel():
            source = weight.cpu()
            cpu.pack_rows(self, first_row, source if source.dtype in DTYPE_CODES else source.float())

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        """Rows by id [R] integer -> [R, K]. Raises IndexError for an id outside [0, N)."""
        if ids.dim() != 1 or ids.is_floating_point():
            raise ValueError(f"rows: ids are {list(ids.shape)} {ids.dtype}; they must be [R] of an integer dtype")
        if self.is_packed:
            return cpu.gather_rows(self, ids.cpu())
        return reference.gather_rows(self.data, ids)
