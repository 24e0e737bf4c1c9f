"""What a model wants from its checkpoint: each layer declares its tensors here as it is built, and gets the memory.

Knows the packed layout of weights only through `PackedWeight`, and nothing of files: `layers/load.py` fills the
declared tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby

import torch

from kvik.kernels.linear import QUANTIZED, PackedWeight
from kvik.layers.formats import FormatOf, float_format
from kvik.layers.lora import LoraTarget
from kvik.parallel.group import ALONE, Group
from kvik.parallel.share import Share

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
    row_share: Share | None = None
    """Where the checkpoint's tensor has more rows (a vector: elements) than this worker: those that it has."""
    column_share: Share | None = None
    """The same of columns."""

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Of the checkpoint's tensor."""
        whole = list(self.shape)
        if self.row_share is not None:
            whole[0] = self.row_share.whole
        if self.column_share is not None:
            whole[-1] = self.column_share.whole
        return tuple(whole)

    @property
    def num_rows(self) -> int:
        return self.shape[0] if len(self.shape) == 2 else 1

    @property
    def num_columns(self) -> int:
        return self.shape[-1]

    def write_part(self, first_row: int, values: torch.Tensor) -> None:
        """Of the checkpoint's rows values [r, columns] from `first_row` on, store those that this worker has."""
        rows = self.row_share or Share(0, self.num_rows, self.num_rows)
        columns = self.column_share or Share(0, self.num_columns, self.num_columns)
        first, end = max(first_row, rows.first), min(first_row + values.shape[0], rows.end)
        if first < end:
            mine = values[first - first_row : end - first_row, columns.first : columns.end]
            self.write(first - rows.first, mine.contiguous())

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
        group: Group = ALONE,
    ) -> None:
        """`group`: the workers that share the model. Sizes that are declared are this worker's."""
        self.group = group
        self.architecture = architecture
        self.dtype = dtype
        self.compute_dtype = compute_dtype
        self.device = device
        self.by_name: dict[str, Parameter] = {}
        self.unused: set[str] = set()
        """Names that a checkpoint may hold for nothing, such as the head of a model with tied embeddings."""
        self.num_bytes_by_format: dict[str, int] = {}
        self.memory: list[torch.Tensor] = []
        """What all parameters are written to."""
        self.lora_targets: list[LoraTarget] = []
        """The linear layers that adapters may change."""
        floats = float_format(dtype, is_exact=torch.device(device).type != "cpu")
        self._format_of = format_of or (lambda _name, _k: floats)

    @property
    def num_bytes(self) -> int:
        return sum(self.num_bytes_by_format.values())

    def packed(
        self,
        rows_by_name: Mapping[str, int],
        num_columns: int,
        row_shares: Mapping[str, Share] | None = None,
        column_share: Share | None = None,
    ) -> tuple[PackedWeight, ...]:
        """Memory for matrices of one input, stacked in the order given: name -> its output rows.

        Neighbours of one format are one weight, so it is one in all where all formats are the same. Shares: the part
        of the checkpoint's tensors that these are, where they are not the whole.
        """
        shares = row_shares or {}
        formats = {name: self._format_of(name, num_columns) for name in rows_by_name}
        runs = groupby(rows_by_name, key=formats.__getitem__)
        return tuple(
            self._packed_run(fmt, {name: rows_by_name[name] for name in names}, num_columns, shares, column_share)
            for fmt, names in runs
        )

    def table(
        self, name: str, num_rows: int, num_columns: int, row_share: Share | None = None
    ) -> torch.Tensor | PackedWeight:
        """Memory for a matrix whose rows are only looked up: plain where it is of floats."""
        fmt = self._format_of(name, num_columns)
        if fmt in QUANTIZED:
            return self._packed_run(fmt, {name: num_rows}, num_columns, {} if row_share is None else {name: row_share})
        tensor = self._empty(num_rows, num_columns, dtype=self.dtype)
        write, fmt = _row_writer(tensor), _FLOATS[self.dtype]
        self._declare(Parameter(name, (num_rows, num_columns), write, fmt, row_share=row_share))
        return tensor

    def _packed_run(
        self,
        fmt: str,
        rows_by_name: Mapping[str, int],
        num_columns: int,
        row_shares: Mapping[str, Share],
        column_share: Share | None = None,
    ) -> PackedWeight:
        weight = PackedWeight.allocate(sum(rows_by_name.values()), num_columns, fmt, device=self.device)
        self._count(fmt, weight.nbytes)
        self.memory.append(weight.data)
        first_row = 0
        for name, num_rows in rows_by_name.items():
            write, write_blocks = _packed_writers(weight, first_row)
            rows = row_shares.get(name)
            self._declare(
                Parameter(
                    name, (num_rows, num_columns), write, fmt, write_blocks, row_share=rows, column_share=column_share
                )
            )
            first_row += num_rows
        return weight

    def vector(self, lengths_by_name: Mapping[str, int], shares: Mapping[str, Share] | None = None) -> torch.Tensor:
        """Memory for vectors one behind another: name -> its length. Norms and biases: few, so they are not rounded
        below what is computed in."""
        tensor = self._empty(sum(lengths_by_name.values()), dtype=self.compute_dtype)
        first = 0
        for name, length in lengths_by_name.items():
            write, share = _row_writer(tensor[first : first + length].unsqueeze(0)), (shares or {}).get(name)
            self._declare(Parameter(name, (length,), write, column_share=share))
            first += length
        return tensor

    def optional(self, name: str, length: int, write: Callable[[torch.Tensor], None]) -> None:
        """A vector that few checkpoints hold; `write` gets it as it is stored."""
        self._declare(Parameter(name, (length,), lambda _, values: write(values[0]), optional=True))

    def fill_random(self, seed: int) -> None:
        """Values of normal(0, 0.02) instead of a checkpoint's; the same for the same seed, model, device and torch.

        A worker that has a part of a tensor draws all of it, so that the parts are those of one model.
        """
        generator = torch.Generator(self.device).manual_seed(seed)
        for parameter in self.by_name.values():
            if parameter.optional:
                continue
            whole = replace(parameter, shape=parameter.stored_shape, row_share=None, column_share=None)
            for first, end in whole.row_ranges():
                values = torch.randn(end - first, whole.num_columns, generator=generator, device=self.device)
                parameter.write_part(first, values.mul_(_DUMMY_STD))

    def _empty(self, *shape: int, dtype: torch.dtype) -> torch.Tensor:
        tensor = torch.empty(*shape, dtype=dtype, device=self.device)
        self._count(_FLOATS[dtype], tensor.nbytes)
        self.memory.append(tensor)
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
