"""Rows of an embedding table by token id. The table may be the packed weight of the output layer that shares it."""

from __future__ import annotations

import torch

from kvik.kernels.embedding import cpu, reference
from kvik.kernels.lazy import LazyModule
from kvik.kernels.linear import PackedWeight
from kvik.kernels.linear.formats import format_of
from kvik.kernels.runtime import DTYPE_CODES, is_native, runs_triton

__all__ = ["embedding"]

triton = LazyModule(f"{__name__}.triton")


def embedding(
    ids: torch.Tensor, table: torch.Tensor | PackedWeight, dtype: torch.dtype, scale: float = 1.0
) -> torch.Tensor:
    """table [V, H] rows ids [T] int32 -> [T, H] in `dtype`, times `scale`.

    The row and the scale are each rounded to `dtype`, and so is their product, as in transformers' Gemma models.
    Raises ValueError on shapes or dtypes, IndexError for an id outside [0, V); on a GPU such an id has a row of zeros,
    since nobody waits there to look.
    """
    if ids.dim() != 1 or ids.dtype is not torch.int32:
        raise ValueError(f"embedding: ids are {list(ids.shape)} {ids.dtype}; they must be [T] torch.int32")
    if ids.is_cpu is not (table.data if isinstance(table, PackedWeight) else table).is_cpu:
        raise ValueError(f"embedding: ids lie on {ids.device}; they must be where the table is")
    native_dtype = is_native(ids) and dtype in (torch.float32, torch.bfloat16)
    if isinstance(table, PackedWeight):
        if table.is_packed and native_dtype:
            return cpu.embedding(ids, table.data, True, table.n, table.k, table.format, dtype, scale)
        if table.is_for_gpu:
            return triton.embedding_of_blocks(ids, table, dtype, scale)
        if runs_triton(ids) and table.dtype is not None:
            return triton.embedding(ids, table.data, dtype, scale)
        return reference.embed(table.rows(ids), dtype, scale)
    if table.dim() != 2 or not table.is_floating_point():
        raise ValueError(
            f"embedding: the table is {list(table.shape)} {table.dtype}; it must be [V, H] of a float dtype"
        )
    if native_dtype and table.dtype in DTYPE_CODES:
        rows, size = table.shape
        return cpu.embedding(ids, table.contiguous(), False, rows, size, format_of(table.dtype), dtype, scale)
    if runs_triton(ids):
        return triton.embedding(ids, table, dtype, scale)
    return reference.embedding(ids, table, dtype, scale)
