"""What a model wants from its checkpoint: each layer declares its tensors here as it is built, and gets the memory.

Knows the packed layout of weights only through `PackedWeight`, and nothing of files: `layers/load.py` fills the
declared tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch

from kvik.kernels.linear import PackedWeight

_DUMMY_STD = 0.02
_PIECE_ELEMENTS = 1 << 22  # of a tensor that is converted at a time, so that no whole matrix exists unpacked


@dataclass(frozen=True, slots=True)
class Parameter:
    """One tensor of the checkpoint and the way to its place."""

    name: str
    """As Hugging Face names it: "model.layers.0.self_attn.q_proj.weight"."""
    shape: tuple[int, ...]
    """[rows, columns] or [columns]."""
    write: Callable[[int, torch.Tensor], None]
    """`write(first_row, values)`: store values [r, columns] of any float dtype; a vector is one row."""
    optional: bool = False

    @property
    def num_rows(self) -> int:
        return self.shape[0] if len(self.shape) == 2 else 1

    @property
    def num_columns(self) -> int:
        return self.shape[-1]

    def row_ranges(self) -> Iterator[tuple[int, int]]:
        """Half-open ranges of rows to convert at a time; they start at multiples of 16, the rows of a packed panel."""
        step = max(16, _PIECE_ELEMENTS // self.num_columns // 16 * 16)
        for first in range(0, self.num_rows, step):
            yield first, min(first + step, self.num_rows)


class ParameterTable:
    """The declared tensors of one model and their memory on `device`: matrices in `dtype`, vectors in fp32."""

    def __init__(self, architecture: str, dtype: torch.dtype, device: str | torch.device = "cpu") -> None:
        self.architecture = architecture
        self.dtype = dtype
        self.device = device
        self.by_name: dict[str, Parameter] = {}
        self.unused: set[str] = set()
        """Names that a checkpoint may hold for nothing, such as the head of a model with tied embeddings."""
        self.num_bytes = 0

    def packed(self, rows_by_name: Mapping[str, int], num_columns: int) -> PackedWeight:
        """Memory for matrices of one input, stacked in the order given: name -> its output rows."""
        weight = PackedWeight.allocate(sum(rows_by_name.values()), num_columns, self.dtype, device=self.device)
        self.num_bytes += weight.nbytes
        first_row = 0
        for name, num_rows in rows_by_name.items():
            self._declare(Parameter(name, (num_rows, num_columns), _packed_writer(weight, first_row)))
            first_row += num_rows
        return weight

    def matrix(self, name: str, num_rows: int, num_columns: int) -> torch.Tensor:
        """Memory for a plain [rows, columns] tensor."""
        tensor = self._empty(num_rows, num_columns, dtype=self.dtype)
        self._declare(Parameter(name, (num_rows, num_columns), _row_writer(tensor)))
        return tensor

    def vector(self, lengths_by_name: Mapping[str, int]) -> torch.Tensor:
        """Memory for vectors one behind another: name -> its length. Norms and biases: few, so they are kept exact."""
        tensor = self._empty(sum(lengths_by_name.values()), dtype=torch.float32)
        first = 0
        for name, length in lengths_by_name.items():
            self._declare(Parameter(name, (length,), _row_writer(tensor[first : first + length].unsqueeze(0))))
            first += length
        return tensor

    def optional(self, name: str, length: int, write: Callable[[torch.Tensor], None]) -> None:
        """A vector that few checkpoints hold; `write` gets it as it is stored."""
        self._declare(Parameter(name, (length,), lambda _, values: write(values[0]), optional=True))

    def fill_random(self, seed: int) -> None:
        """Values of normal(0, 0.02) instead of a checkpoint's; the same for the same seed, model and torch."""
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.by_name.values():
            if parameter.optional:
                continue
            for first, end in parameter.row_ranges():
                values = torch.randn(end - first, parameter.num_columns, generator=generator)
                parameter.write(first, values.mul_(_DUMMY_STD))

    def _empty(self, *shape: int, dtype: torch.dtype) -> torch.Tensor:
        tensor = torch.empty(*shape, dtype=dtype, device=self.device)
        self.num_bytes += tensor.nbytes
        return tensor

    def _declare(self, parameter: Parameter) -> None:
        if parameter.name in self.by_name:
            raise ValueError(f"tensor {parameter.name} is declared twice by {self.architecture}")
        self.by_name[parameter.name] = parameter


def _packed_writer(weight: PackedWeight, first_row: int) -> Callable[[int, torch.Tensor], None]:
    return lambda row, values: weight.fill_rows(first_row + row, values)


def _row_writer(tensor: torch.Tensor) -> Callable[[int, torch.Tensor], None]:
    def write(row: int, values: torch.Tensor) -> None:
        tensor[row : row + values.shape[0]].copy_(values)

    return write
