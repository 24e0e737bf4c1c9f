"""Rows of a tensor as a file stores them -> the place that the model declared for them, on whatever device both are.

Knows formats of values and blocks, and nothing of files.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from kvik.errors import ConfigError, ModelFileError
from kvik.kernels.dequantize import FORMATS, dequantize
from kvik.kernels.linear.fp8_layout import FP8_FORMATS, join, values_of
from kvik.layers.formats import q8_0_of_q5_0
from kvik.layers.parameters import Parameter
from kvik.parallel.share import Share

_FLOAT_DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def store_rows(
    parameter: Parameter, first_row: int, fmt: str, data: torch.Tensor, scales: torch.Tensor | None = None
) -> None:
    """data uint8 [num_bytes]: whole rows stored as `fmt`, which become rows `first_row` and on. `scales` fp32
    [rows, scales of a row]: those of 8-bit floats, perhaps still on the host.

    Of whole rows of the checkpoint a worker keeps its columns. Raises `ModelFileError` for a format that says nothing
    of its values, `ConfigError` for blocks that would have to be cut.
    """
    if parameter.column_share is not None and not parameter.column_share.is_whole:
        if scales is not None:
            data, scales = _own_columns_of_fp8(parameter.name, parameter.column_share, fmt, data, scales)
        else:
            data = _own_columns(parameter.name, parameter.column_share, fmt, data)
    if fmt in _FLOAT_DTYPES:
        values = _view_floats(data, _FLOAT_DTYPES[fmt]).view(-1, parameter.num_columns)
        whole = [(0, values.shape[0])]
        # Quantising takes memory of its own, so it is done a piece at a time.
        for first, end in whole if parameter.write_blocks is None else _pieces(parameter, values.shape[0]):
            parameter.write(first_row + first, values[first:end])
    elif scales is not None:
        _store_fp8(parameter, first_row, fmt, data.view(-1, parameter.num_columns), scales.to(data.device))
    elif fmt in FORMATS:
        _store_blocks(parameter, first_row, fmt, data)
    else:
        raise ModelFileError(
            f"tensor {parameter.name} is stored as {fmt}, and nothing says what its numbers mean; a quantised "
            "checkpoint needs its quantization_config in config.json"
        )


def _own_columns(name: str, share: Share, fmt: str, data: torch.Tensor) -> torch.Tensor:
    """Of whole rows, the bytes of the columns of `share`, one row behind another."""
    block = FORMATS.get(fmt)
    if block is None:
        return data  # what it is, is told by who stores it
    if share.first % block.block_size or share.end % block.block_size:
        raise ConfigError(
            f"--tensor-parallel-size: tensor {name} is stored as {fmt} in blocks of {block.block_size} columns, and "
            f"columns {share.first} to {share.end} of {share.whole} are no whole blocks; take a size that divides its "
            f"{share.whole // block.block_size} blocks, a checkpoint of smaller blocks, or of floats"
        )
    row_bytes, first, end = (n // block.block_size * block.block_bytes for n in (share.whole, share.first, share.end))
    return data.view(-1, row_bytes)[:, first:end].contiguous().view(-1)


def _own_columns_of_fp8(
    name: str, share: Share, fmt: str, codes: torch.Tensor, scales: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same of 8-bit floats, and the scales of those columns."""
    group = FP8_FORMATS[fmt].group
    if group and (share.first % group or (share.end % group and share.end != share.whole)):
        raise ConfigError(
            f"--tensor-parallel-size: tensor {name} has a scale for each {group} columns, and columns {share.first} to "
            f"{share.end} of {share.whole} are no whole groups; take a size that divides its {share.whole // group} "
            "groups"
        )
    mine = codes.view(-1, share.whole)[:, share.first : share.end].contiguous().view(-1)
    return mine, scales[:, share.first // group : -(-share.end // group)] if group else scales


def _store_fp8(parameter: Parameter, first_row: int, fmt: str, codes: torch.Tensor, scales: torch.Tensor) -> None:
    """As they are where memory has the same format, else as the values that they mean."""
    for first, end in _pieces(parameter, codes.shape[0]):
        rows = join(codes[first:end], scales[first:end])
        if parameter.write_blocks is not None and fmt == parameter.format:
            parameter.write_blocks(first_row + first, rows)
        else:
            parameter.write(first_row + first, values_of(rows, fmt, parameter.num_columns))


def _store_blocks(parameter: Parameter, first_row: int, fmt: str, data: torch.Tensor) -> None:
    """As they are where memory has the same format, else a piece at a time: nothing is lost where formats allow it."""
    found = FORMATS[fmt]
    rows = data.view(-1, parameter.num_columns // found.block_size * found.block_bytes)
    dtype = torch.bfloat16 if parameter.format == "bf16" else torch.float32
    if parameter.write_blocks is not None and fmt == parameter.format:
        parameter.write_blocks(first_row, rows)
        return
    for first, end in _pieces(parameter, rows.shape[0]):
        if parameter.write_blocks is not None and (fmt, parameter.format) == ("q5_0", "q8_0"):
            parameter.write_blocks(first_row + first, q8_0_of_q5_0(rows[first:end]))
        else:
            values = rows[first:end].reshape(-1)
            parameter.write(first_row + first, dequantize(values, fmt, end - first, parameter.num_columns, dtype))


def _pieces(parameter: Parameter, num_rows: int) -> Iterator[tuple[int, int]]:
    """The first ranges of `Parameter.row_ranges`, as far as there are rows."""
    for first, end in parameter.row_ranges():
        if first < num_rows:
            yield first, min(end, num_rows)


def _view_floats(data: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Bytes as floats; a copy only where the file did not align them."""
    aligned = data.data_ptr() % dtype.itemsize == 0 and data.storage_offset() % dtype.itemsize == 0
    return (data if aligned else data.clone()).view(dtype)
