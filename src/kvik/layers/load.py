"""Fills a model's declared parameters from a checkpoint, one shard at a time, and says what does not fit.

Peak memory is the packed weights and one shard: each tensor goes from the mapped file straight into the kernels'
layout, and a shard's pages are dropped before the next is read. Knows tensor names only as strings to compare.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import torch

from kvik.errors import ModelFileError
from kvik.kernels.dequantize import FORMATS, dequantize
from kvik.layers.formats import q8_0_of_q5_0
from kvik.layers.parameters import Parameter, ParameterTable
from kvik.telemetry.log import get_logger, log_once
from kvik.weights import Checkpoint, RawTensor

__all__ = ["Checkpoint", "OnBytes", "OnShard", "load_parameters"]

_logger = get_logger(__name__)

OnShard = Callable[[str, int, int], None]
"""Called as each shard is done: its name, how many are done, how many there are."""
OnBytes = Callable[[int], None]
"""Called as each tensor is done: its bytes, as stored."""

_FLOAT_DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
_HARMLESS_SUFFIXES = (".inv_freq", ".masked_bias", ".attn.bias")  # buffers that old checkpoints stored
_NAMES_IN_MESSAGE = 5


def load_parameters(
    table: ParameterTable,
    checkpoint: Checkpoint,
    on_shard: OnShard | None = None,
    on_bytes: OnBytes | None = None,
) -> None:
    """Copy every declared tensor from the checkpoint to its place.

    Raises `ModelFileError` for a tensor that is missing, has another shape or comes twice. Tensors that the
    model does not know are left out with one warning.
    """
    seen: set[str] = set()
    unknown: list[str] = []
    for num_done, shard in enumerate(checkpoint.shards(), start=1):
        for raw in shard.tensors():
            if raw.name in seen:
                raise ModelFileError(f"tensor {raw.name} is in the checkpoint twice, again in {shard.name}")
            seen.add(raw.name)
            parameter = table.by_name.get(raw.name)
            if parameter is not None:
                _copy(raw, parameter)
            elif not _is_harmless(raw.name, table):
                unknown.append(raw.name)
            if on_bytes is not None:
                on_bytes(raw.data.nbytes)
        shard.release()
        if on_shard is not None:
            on_shard(shard.name, num_done, checkpoint.num_shards)
    _check_complete(table, seen)
    if unknown:
        text = "%s does not use %d tensors of the checkpoint: %s"
        log_once(_logger, logging.WARNING, text, table.architecture, len(unknown), _some(unknown))


def _copy(raw: RawTensor, parameter: Parameter) -> None:
    if raw.shape != parameter.shape:
        raise ModelFileError(
            f"tensor {raw.name} has shape {list(raw.shape)}, but the model's configuration makes it "
            f"{list(parameter.shape)}; the configuration and the weights are not of the same model"
        )
    if raw.fmt in _FLOAT_DTYPES:
        values = _view_floats(raw.data, _FLOAT_DTYPES[raw.fmt]).view(parameter.num_rows, parameter.num_columns)
        ranges = [(0, parameter.num_rows)] if parameter.write_blocks is None else parameter.row_ranges()
        for first, end in ranges:  # quantising takes memory of its own, so it is done a piece at a time
            parameter.write(first, values[first:end])
    elif raw.fmt in FORMATS:
        _copy_blocks(raw, parameter)
    else:
        raise ModelFileError(
            f"tensor {raw.name} is stored as {raw.fmt}, and nothing says what its numbers mean; a quantised "
            "checkpoint needs its quantization_config in config.json"
        )


def _copy_blocks(raw: RawTensor, parameter: Parameter) -> None:
    """As they are where memory has the same format, else a piece at a time: nothing is lost where formats allow it."""
    rows = raw.data.view(parameter.num_rows, -1)
    dtype = torch.bfloat16 if parameter.format == "bf16" else torch.float32
    if parameter.write_blocks is not None and raw.fmt == parameter.format:
        parameter.write_blocks(0, rows)
        return
    for first, end in parameter.row_ranges():
        if parameter.write_blocks is not None and (raw.fmt, parameter.format) == ("q5_0", "q8_0"):
            parameter.write_blocks(first, q8_0_of_q5_0(rows[first:end]))
        else:
            data = rows[first:end].reshape(-1)
            parameter.write(first, dequantize(data, raw.fmt, end - first, parameter.num_columns, dtype))


def _view_floats(data: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Bytes as floats; a copy only where the file did not align them."""
    aligned = data.data_ptr() % dtype.itemsize == 0 and data.storage_offset() % dtype.itemsize == 0
    return (data if aligned else data.clone()).view(dtype)


def _is_harmless(name: str, table: ParameterTable) -> bool:
    return name in table.unused or name.endswith(_HARMLESS_SUFFIXES)


def _check_complete(table: ParameterTable, seen: set[str]) -> None:
    missing = [p.name for p in table.by_name.values() if p.name not in seen and not p.optional]
    if missing:
        raise ModelFileError(
            f"the checkpoint lacks {len(missing)} of the {len(table.by_name)} tensors of {table.architecture}: "
            f"{_some(missing)}; a shard may be missing, or the files are of another architecture"
        )


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    rest = len(listed) - _NAMES_IN_MESSAGE
    return ", ".join(listed[:_NAMES_IN_MESSAGE]) + (f" and {rest} more" if rest > 0 else "")
