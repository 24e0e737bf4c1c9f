"""What a model wants from its checkpoint: each layer declares its tensors here as it is built, and gets the memory.

Knows the packed layout of weights only through `PackedWeight`, and nothing of files: `layers/load.py` fills the
declared tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

import torch

from kvik.kernels.linear import QUANTIZED, PackedWeight
from kvik.kernels.pages import give_back_pages
from kvik.layers.formats import FormatOf, float_format
from kvik.layers.lora import LoraTarget

_DUMMY_STD = 0.02
_FLOATS = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}
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
    format: str = "f32"
    """How it is kept in memory, named as in GGUF."""
    write_blocks: Callable[[int, torch.Tensor], None] | None = None
    """Of a quantised format: `write_blocks(first_row, blocks)` stores blocks uint8 [r, bytes of a row] as they are."""
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
    """The declared tensors of one model and their memory on `device`: matrices in the format that `format_of` names,
    else in `dtype`; vectors in `compute_dtype`, in which activations go from layer to layer."""

    def __init__(
        self,
        architecture: str,
        dtype: torch.dtype,
        device: str | torch.device = "cpu",
        format_of: FormatOf | None = None,
        compute_dtype: torch.dtype = torch.float32,
    ) -> None:
        self.architecture = architecture
        self.dtype = dtype
        self.compute_dtype = compute_dtype
        self.device = device
        self.by_name: dict[str, Parameter] = {}
        self.unused: set[str] = set()
        """Names that a checkpoint may hold for nothing, such as the head of a model with tied embeddings."""
        self.num_bytes_by_format: dict[str, int] = {}
        self._memory: list[torch.Tensor] = []
        self.lora_targets: list[LoraTarget] = []
        """The linear layers that adapters may change."""
        floats = float_format(dtype, is_exact=torch.device(device).type != "cpu")
        self._format_of = format_of or (lambda _name, _k: floats)

    @property
    def num_bytes(self) -> int:
        return sum(self.num_bytes_by_format.values())

    def packed(self, rows_by_name: Mapping[str, int], num_columns: int) -> tuple[PackedWeight, ...]:
        """Memory for matrices of one input, stacked in the order given: name -> its output rows.

        Neighbours of one format are one weight, so it is one in all where all formats are the same.
        """
        formats = {name: self._format_of(name, num_columns) for name in rows_by_name}
        runs = groupby(rows_by_name, key=formats.__getitem__)
        return tuple(
            self._packed_run(fmt, {name: rows_by_name[name] for name in names}, num_columns) for fmt, names in runs
        )

    def table(self, name: str, num_rows: int, num_columns: int) -> torch.Tensor | PackedWeight:
        """Memory for a matrix whose rows are only looked up: plain where it is of floats."""
        fmt = self._format_of(name, num_columns)
        if fmt in QUANTIZED:
            return self._packed_run(fmt, {name: num_rows}, num_columns)
        tensor = self._empty(num_rows, num_columns, dtype=self.dtype)
        self._declare(Parameter(name, (num_rows, num_columns), _row_writer(tensor), _FLOATS[self.dtype]))
        return tensor

    def _packed_run(self, fmt: str, rows_by_name: Mapping[str, int], num_columns: int) -> PackedWeight:
        weight = PackedWeight.allocate(sum(rows_by_name.values()), num_columns, fmt, device=self.device)
        self._count(fmt, weight.nbytes)
        self._memory.append(weight.data)
        first_row = 0
        for name, num_rows in rows_by_name.items():
            write, write_blocks = _packed_writers(weight, first_row)
            self._declare(Parameter(name, (num_rows, num_columns), write, fmt, write_blocks))
            first_row += num_rows
        return weight

    def vector(self, lengths_by_name: Mapping[str, int]) -> torch.Tensor:
        """Memory for vectors one behind another: name -> its length. Norms and biases: few, so they are not rounded
        below what is computed in."""
        tensor = self._empty(sum(lengths_by_name.values()), dtype=self.compute_dtype)
        first = 0
        for name, length in lengths_by_name.items():
            self._declare(Parameter(name, (length,), _row_writer(tensor[first : first + length].unsqueeze(0))))
            first += length
        return tensor

    def optional(self, name: str, length: int, write: Callable[[torch.Tensor], None]) -> None:
        """A vector that few checkpoints hold; `write` gets it as it is stored."""
        self._declare(Parameter(name, (length,), lambda _, values: write(values[0]), optional=True))

    def fill_random(self, seed: int) -> None:
        """Values of normal(0, 0.02) instead of a checkpoint's; the same for the same seed, model, device and torch."""
        generator = torch.Generator(self.device).manual_seed(seed)
        for parameter in self.by_name.values():
            if parameter.optional:
                continue
            for first, end in parameter.row_ranges():
                values = torch.randn(end - first, parameter.num_columns, generator=generator, device=self.device)
                parameter.write(first, values.mul_(_DUMMY_STD))

    def release(self) -> int:
        """Give back the pages of all memory, bytes. Addresses stay; every parameter must be written again."""
        return sum(give_back_pages(tensor) for tensor in self._memory)

    def _empty(self, *shape: int, dtype: torch.dtype) -> torch.Tensor:
        tensor = torch.empty(*shape, dtype=dtype, device=self.device)
        self._count(_FLOATS[dtype], tensor.nbytes)
        self._memory.append(tensor)
        return tensor

    def _count(self, fmt: str, num_bytes: int) -> None:
        self.num_bytes_by_format[fmt] = self.num_bytes_by_format.get(fmt, 0) + num_bytes

    def _declare(self, parameter: Parameter) -> None:
        if parameter.name in self.by_name:
            raise ValueError(f"tensor {parameter.name} is declared twice by {self.architecture}")
        self.by_name[parameter.name] = parameter


Writer = Callable[[int, torch.Tensor], None]


def _packed_writers(weight: PackedWeight, first_row: int) -> tuple[Writer, Writer | None]:
    """For values, and for blocks where the format has such."""

    def write(row: int, values: torch.Tensor) -> None:
        weight.fill_rows(first_row + row, values)

    def write_blocks(row: int, blocks: torch.Tensor) -> None:
        weight.fill_blocks(first_row + row, blocks)

    return write, write_blocks if weight.has_blocks else None


def _row_writer(tensor: torch.Tensor) -> Callable[[int, torch.Tensor], None]:
    def write(row: int, values: torch.Tensor) -> None:
        tensor[row : row + values.shape[0]].copy_(values)

    return write
