"""Where the adapters of one layer lie: slots at fixed addresses, made once; on a CPU in the layout of csrc/packed.h, on
a GPU as plain matrices, A by rows and B by rows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
import torch.nn.functional as F

from kvik.kernels.runtime import is_gpu, native

PANEL_ROWS = 16


class LoraFactors(NamedTuple):
    """What an adapter adds to one projection: scale * (x A^T) B^T."""

    a: torch.Tensor  # [rank, K], any float dtype
    b: torch.Tensor  # [N, rank]
    scale: float


class LoraSlots:
    """Room for `num_slots` adapters of rank `max_rank` at most, for the parts of one merged projection.

    Kept in `dtype`: bf16, fp16 or fp32. Memory is taken as slots are first written.
    """

    __slots__ = ("_a", "_b", "columns", "dtype", "is_for_gpu", "max_rank", "num_inputs", "ranks", "scales", "sizes")

    def __init__(
        self,
        sizes: Sequence[int],
        num_inputs: int,
        num_slots: int,
        max_rank: int,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
    ) -> None:
        """`sizes`: outputs of each part, in the order in which they lie side by side."""
        self.sizes = tuple(sizes)
        self.num_inputs = num_inputs
        self.max_rank = max_rank
        self.dtype = dtype
        self.is_for_gpu = is_gpu(device)
        if self.is_for_gpu:
            self._a = torch.zeros((num_slots, len(sizes), max_rank, num_inputs), dtype=dtype, device=device)
            self._b = torch.zeros((num_slots, sum(sizes), max_rank), dtype=dtype, device=device)
        else:
            unit = unit_of(dtype)
            rank_panels, panels = -(-max_rank // PANEL_ROWS), [-(-size // PANEL_ROWS) for size in sizes]
            step = PANEL_ROWS * unit
            self._a = _zeros((num_slots, len(sizes), rank_panels, -(-num_inputs // unit), step), dtype)
            self._b = _zeros((num_slots, sum(panels), -(-max_rank // unit), step), dtype)
        self.ranks = torch.zeros(num_slots, len(sizes), dtype=torch.int32, device=device)
        self.scales = torch.zeros(num_slots, len(sizes), device=device)
        self.columns = torch.tensor([0, *accumulate(self.sizes)], dtype=torch.int32, device=device)

    @property
    def num_outputs(self) -> int:
        return sum(self.sizes)

    @property
    def nbytes(self) -> int:
        return self._a.nbytes + self._b.nbytes + self.ranks.nbytes + self.scales.nbytes

    @property
    def a(self) -> torch.Tensor:
        """[slots, parts, panels of max_rank, steps of K, 16 elements or pairs]; GPU: [slots, parts, max_rank, K]."""
        return self._a

    @property
    def b(self) -> torch.Tensor:
        """[slots, panels of all parts, steps of max_rank, 16 elements or pairs]; GPU: [slots, outputs, max_rank]."""
        return self._b

    def write(self, slot: int, part: int, factors: LoraFactors | None) -> None:
        """Put an adapter's part into a slot; None: the adapter leaves this part alone.

        Raises ValueError where shapes do not fit.
        """
        if factors is None:
            self.ranks[slot, part] = 0
            return
        rank = factors.a.shape[0]
        fits = factors.a.shape[1] == self.num_inputs and tuple(factors.b.shape) == (self.sizes[part], rank)
        if not fits or not 1 <= rank <= self.max_rank:
            raise ValueError(
                f"factors of {list(factors.a.shape)} and {list(factors.b.shape)} do not fit a projection of "
                f"{self.num_inputs} inputs and {self.sizes[part]} outputs with ranks up to {self.max_rank}"
            )
        a, b = factors.a.to(self.dtype), factors.b.to(self.dtype)
        first = self._first(part)
        if not self.is_for_gpu:
            a, b = packed(a), packed(b)
        self._a[slot, part, : a.shape[0]] = a
        self._b[slot, first : first + b.shape[0], : b.shape[1]] = b
        self.ranks[slot, part] = rank
        self.scales[slot, part] = factors.scale

    def read(self, slot: int, part: int) -> LoraFactors | None:
        """The inverse of `write`, in fp32, as it was rounded."""
        rank, size = int(self.ranks[slot, part]), self.sizes[part]
        if rank == 0:
            return None
        first = self._first(part)
        if self.is_for_gpu:
            a, b = self._a[slot, part, :rank], self._b[slot, first : first + size, :rank]
            return LoraFactors(a.float(), b.float(), float(self.scales[slot, part]))
        a = unpacked(self._a[slot, part], rank, self.num_inputs)
        b = unpacked(self._b[slot, first : first + -(-size // PANEL_ROWS)], size, rank)
        return LoraFactors(a.float(), b.float(), float(self.scales[slot, part]))

    def _first(self, part: int) -> int:
        """Where a part begins in B: its first output, or its first panel."""
        return sum(size if self.is_for_gpu else -(-size // PANEL_ROWS) for size in self.sizes[:part])


def unit_of(dtype: torch.dtype) -> int:
    """Elements of a row that lie together, as csrc/chain.h has it."""
    return 2 if dtype is torch.bfloat16 else 1


def packed(weight: torch.Tensor) -> torch.Tensor:
    """[N, K] -> [panels, steps, 16 x unit]."""
    unit = unit_of(weight.dtype)
    padded = F.pad(weight, (0, -weight.shape[1] % unit, 0, -weight.shape[0] % PANEL_ROWS))
    steps = padded.shape[1] // unit
    return padded.view(-1, PANEL_ROWS, steps, unit).transpose(1, 2).reshape(-1, steps, PANEL_ROWS * unit)


def unpacked(data: torch.Tensor, n: int, k: int) -> torch.Tensor:
    """The inverse of `packed`: the first [n, k] of what lies in [panels, steps, 16 x unit]."""
    unit = unit_of(data.dtype)
    panels, steps, _ = data.shape
    rows = data.view(panels, steps, PANEL_ROWS, unit).transpose(1, 2).reshape(panels * PANEL_ROWS, steps * unit)
    return rows[:n, :k]


def _zeros(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Zeroed; without a native build as torch makes it."""
    if native is None:
        return torch.zeros(shape, dtype=dtype)
    num_elements = torch.Size(shape).numel()
    memory: torch.Tensor = native.allocate(num_elements * dtype.itemsize)
    return memory.view(dtype).view(shape)
