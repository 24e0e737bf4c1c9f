"""lora in Triton, in two launches: the thin products x A^T, K split among programs, then their products with B.

A program looks on the device which adapters its rows have and goes through those one after another: rows of a prompt
have one, decoding requests may each have their own. The host knows sizes only, so launches can be captured.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from kvik.kernels.launch import launch
from kvik.kernels.lora.slots import LoraSlots

NO_SLOT = tl.constexpr(2**31 - 1)


@triton.jit
def _slots_of(row_slots, row, num_rows):
    """Slots of rows [M]; NO_SLOT where there is none, so that the least one comes next."""
    slot = tl.load(row_slots + row, mask=row < num_rows, other=-1)
    return tl.where(slot < 0, NO_SLOT, slot)


@triton.jit(do_not_specialize=["num_rows"])
def _shrink(
    x, a, ranks, row_slots, out, x_stride, num_rows, k, num_parts, k_per_split, MAX_RANK: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """out fp32 [splits, parts, rows, BLOCK_R]: written where the row has an adapter for the part."""
    row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    part = tl.program_id(1)
    split = tl.program_id(2)
    lane = tl.arange(0, BLOCK_R)
    slots = _slots_of(row_slots, row, num_rows)
    place = out + ((split.to(tl.int64) * num_parts + part) * num_rows + row)[:, None] * BLOCK_R + lane[None, :]
    slot = tl.min(slots, 0)
    while slot != NO_SLOT:
        rank = tl.load(ranks + slot * num_parts + part)
        if rank > 0:
            first = (slot.to(tl.int64) * num_parts + part) * MAX_RANK * k
            total = tl.zeros((BLOCK_M, BLOCK_R), tl.float32)
            for begin in range(split * k_per_split, tl.minimum((split + 1) * k_per_split, k), BLOCK_K):
                column = begin + tl.arange(0, BLOCK_K)
                inside = column < k
                inputs = tl.load(
                    x + row.to(tl.int64)[:, None] * x_stride + column[None, :],
                    mask=(slots == slot)[:, None] & inside[None, :], other=0.0,
                )  # fmt: skip
                factor = tl.load(
                    a + first + lane[None, :] * k + column[:, None],
                    mask=(lane < rank)[None, :] & inside[:, None], other=0.0,
                )  # fmt: skip
                total = tl.dot(inputs, factor.to(inputs.dtype), total, input_precision="ieee")
            tl.store(place, total, mask=(slots == slot)[:, None])
        slot = tl.min(tl.where(slots > slot, slots, NO_SLOT), 0)


@triton.jit(do_not_specialize=["num_rows", "num_splits"])
def _expand(
    shrunk, b, ranks, scales, columns, row_slots, x, out, out_stride, num_rows, num_parts, num_outputs, num_splits,
    MAX_RANK: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """out [rows, outputs] += scale * shrunk B^T, the splits of `shrunk` added in order. `x` tells the dtype only."""
    row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    part = tl.program_id(2)
    begin = tl.load(columns + part)
    end = tl.load(columns + part + 1)
    column = begin + tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    lane = tl.arange(0, BLOCK_R)
    dtype = x.dtype.element_ty
    slots = _slots_of(row_slots, row, num_rows)
    place = out + row.to(tl.int64)[:, None] * out_stride + column[None, :]
    slot = tl.min(slots, 0)
    if begin + tl.program_id(1) * BLOCK_N >= end:
        slot = NO_SLOT  # a part with fewer outputs than the widest
    while slot != NO_SLOT:
        rank = tl.load(ranks + slot * num_parts + part)
        if rank > 0:
            mine = slots == slot
            narrow = tl.zeros((BLOCK_M, BLOCK_R), tl.float32)
            for split in range(num_splits):
                at = ((split * num_parts + part).to(tl.int64) * num_rows + row) * BLOCK_R
                narrow += tl.load(
                    shrunk + at[:, None] + lane[None, :], mask=mine[:, None] & (lane < rank)[None, :], other=0.0
                )
            factor = tl.load(
                b + (slot.to(tl.int64) * num_outputs + column)[None, :] * MAX_RANK + lane[:, None],
                mask=(column < end)[None, :] & (lane < rank)[:, None], other=0.0,
            )  # fmt: skip
            narrow *= tl.load(scales + slot * num_parts + part)
            added = tl.dot(narrow.to(dtype), factor.to(dtype), input_precision="ieee")
            mask = mine[:, None] & (column < end)[None, :]
            before = tl.load(place, mask=mask, other=0.0).to(tl.float32)
            tl.store(place, (before + added).to(out.dtype.element_ty), mask=mask)
        slot = tl.min(tl.where(slots > slot, slots, NO_SLOT), 0)


def lora(out: torch.Tensor, x: torch.Tensor, row_slots: torch.Tensor, slots: LoraSlots) -> None:
    num_rows, num_parts = x.shape[0], len(slots.sizes)
    if not num_rows:
        return
    if out.stride(1) != 1 or not row_slots.is_contiguous():
        raise ValueError("lora: out must be contiguous in its rows, and row_slots altogether")
    x = x if x.stride(1) == 1 else x.contiguous()
    settings = launch("lora", rows=num_rows)
    num_programs, block_k, block_n = settings.pop("programs"), settings.pop("BLOCK_K"), settings.pop("BLOCK_N")
    block_r = max(16, triton.next_power_of_2(slots.max_rank))
    row_blocks = triton.cdiv(num_rows, settings["BLOCK_M"])
    k_per_split = triton.cdiv(triton.cdiv(slots.num_inputs, block_k), num_programs // (row_blocks * num_parts) or 1)
    k_per_split *= block_k
    splits = triton.cdiv(slots.num_inputs, k_per_split)
    shrunk = torch.empty((splits, num_parts, num_rows, block_r), dtype=torch.float32, device=x.device)
    _shrink[(row_blocks, num_parts, splits)](
        x, slots.a, slots.ranks, row_slots, shrunk, x.stride(0), num_rows, slots.num_inputs, num_parts, k_per_split,
        MAX_RANK=slots.max_rank, BLOCK_R=block_r, BLOCK_K=block_k, **settings,
    )  # fmt: skip
    _expand[(row_blocks, triton.cdiv(max(slots.sizes), block_n), num_parts)](
        shrunk, slots.b, slots.ranks, slots.scales, slots.columns, row_slots, x, out, out.stride(0), num_rows,
        num_parts, slots.num_outputs, splits, MAX_RANK=slots.max_rank, BLOCK_R=block_r, BLOCK_N=block_n, **settings,
    )  # fmt: skip
