"""Paged attention in Triton: prompts, chunks of prompts and decoding requests in one launch.

A program has a tile of queries of one request and one key head: rows are (query, head of the group) pairs, so that the
keys that a group shares are loaded once. Where the tiles are too few for the device, the keys of each are split among
several programs, whose parts a second kernel merges (Flash-Decoding; Dao et al., 2023). Where requests begin and end is
read on the device: the host knows the number of tokens and requests only, so a launch can be captured.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kvik.kernels.launch import launch

LOG2E = 1.4426950408889634
MAX_SPLITS = 32


@triton.jit
def _request_of(tile, query_start_loc, num_requests, QUERIES: tl.constexpr):
    """The request whose tiles this one is among: those of b begin at query_start_loc[b] // QUERIES + b."""
    low = 0
    high = num_requests
    while low < high:
        middle = (low + high) // 2
        if tl.load(query_start_loc + middle) // QUERIES + middle <= tile:
            low = middle + 1
        else:
            high = middle
    return low - 1


@triton.jit
def _fold(
    block, rows, position, end, dim, table, k_cache, v_cache, k_block, k_dim, k_slot, v_block, v_slot, v_dim, scale,
    maximum, total, acc,
    HEAD_DIM: tl.constexpr, BLOCK_SIZE: tl.constexpr, WINDOW: tl.constexpr, BLOCK_N: tl.constexpr,
    IS_EDGE: tl.constexpr,
):  # fmt: skip
    """Keys [block * BLOCK_N, + BLOCK_N) into the rows' running maximum, sum of weights and weighted sum of values.
    Without IS_EDGE all rows see all of them."""
    key = block * BLOCK_N + tl.arange(0, BLOCK_N)
    is_key = key < end if IS_EDGE else key >= 0
    page = tl.load(table + key // BLOCK_SIZE, mask=is_key, other=0).to(tl.int64)
    slot = key % BLOCK_SIZE
    is_dim = dim < HEAD_DIM
    k_place = page * k_block + slot * k_slot
    keys = tl.load(
        k_cache + k_place[None, :] + (dim * k_dim)[:, None], mask=is_key[None, :] & is_dim[:, None], other=0.0
    )
    scores = tl.dot(rows, keys.to(rows.dtype), input_precision="ieee") * scale
    if IS_EDGE:
        visible = is_key[None, :] & (key[None, :] <= position[:, None])
        if WINDOW:
            visible = visible & (key[None, :] > position[:, None] - WINDOW)
        scores = tl.where(visible, scores, -float("inf"))
    new_maximum = tl.maximum(maximum, tl.max(scores, 1))
    finite = tl.where(new_maximum == -float("inf"), 0.0, new_maximum)
    weights = tl.exp2(scores - finite[:, None])
    factor = tl.exp2(maximum - finite)
    total = total * factor + tl.sum(weights, 1)
    v_place = page * v_block + slot * v_slot
    values = tl.load(
        v_cache + v_place[:, None] + (dim * v_dim)[None, :], mask=is_key[:, None] & is_dim[None, :], other=0.0
    )
    acc = acc * factor[:, None]
    acc += tl.dot(weights.to(rows.dtype), values.to(rows.dtype), input_precision="ieee")
    return new_maximum, total, acc


@triton.jit(do_not_specialize=["num_requests", "num_splits"])
def _attend(
    q, k_cache, v_cache, out, maxima, sums, block_tables, query_start_loc, seq_lens, num_requests, num_splits,
    table_stride, q_stride, k_block, k_head, k_dim, k_slot, v_block, v_head, v_slot, v_dim, scale, v_scale,
    HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, GROUP: tl.constexpr, NUM_HEADS: tl.constexpr,
    BLOCK_SIZE: tl.constexpr, WINDOW: tl.constexpr, IS_SPLIT: tl.constexpr, IS_DECODE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """`scale` is in base 2. Row r of a tile is head r % GROUP of its query r // GROUP."""
    QUERIES: tl.constexpr = BLOCK_M // GROUP
    kv_head = tl.program_id(1)
    split = tl.program_id(2)
    if IS_DECODE:
        request = tl.program_id(0)
        first_query = 0
    else:
        tile = tl.num_programs(0) - 1 - tl.program_id(0)  # a prompt's last queries see most keys: they begin first
        request = _request_of(tile, query_start_loc, num_requests, QUERIES)
        first_query = (tile - tl.load(query_start_loc + request) // QUERIES - request) * QUERIES
    start = tl.load(query_start_loc + request)
    num_queries = tl.load(query_start_loc + request + 1) - start
    if first_query >= num_queries:
        return
    seq_len = tl.load(seq_lens + request)
    context = seq_len - num_queries

    row = tl.arange(0, BLOCK_M)
    query = first_query + row // GROUP
    head = kv_head * GROUP + row % GROUP
    is_row = (query < num_queries) & (row < QUERIES * GROUP)
    dim = tl.arange(0, BLOCK_D)
    is_element = is_row[:, None] & (dim < HEAD_DIM)[None, :]
    token = (start + query).to(tl.int64)
    q_place = token[:, None] * q_stride + (head * HEAD_DIM)[:, None] + dim[None, :]
    rows = tl.load(q + q_place, mask=is_element, other=0.0)
    position = context + query

    end = tl.minimum(seq_len, context + first_query + QUERIES)
    first_key = tl.maximum(0, context + first_query - WINDOW + 1) if WINDOW else 0
    first_block = first_key // BLOCK_N
    num_blocks = tl.maximum(0, tl.cdiv(end, BLOCK_N) - first_block)
    per_split = tl.cdiv(num_blocks, num_splits)
    low = first_block + split * per_split
    high = tl.minimum(low + per_split, first_block + num_blocks)

    maximum = tl.full([BLOCK_M], -float("inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    table = block_tables + request.to(tl.int64) * table_stride
    k_cache += kv_head * k_head
    v_cache += kv_head * v_head
    edge = low
    if not WINDOW:  # the blocks that all rows see whole
        edge = tl.maximum(low, tl.minimum(high, (context + first_query + 1) // BLOCK_N))
        for block in range(low, edge):
            maximum, total, acc = _fold(
                block, rows, position, end, dim, table, k_cache, v_cache, k_block, k_dim, k_slot, v_block, v_slot,
                v_dim, scale, maximum, total, acc, HEAD_DIM, BLOCK_SIZE, WINDOW, BLOCK_N, False,
            )  # fmt: skip
    for block in range(edge, high):
        maximum, total, acc = _fold(
            block, rows, position, end, dim, table, k_cache, v_cache, k_block, k_dim, k_slot, v_block, v_slot, v_dim,
            scale, maximum, total, acc, HEAD_DIM, BLOCK_SIZE, WINDOW, BLOCK_N, True,
        )  # fmt: skip

    acc = acc * v_scale
    place = token * NUM_HEADS + head
    if IS_SPLIT:
        part = place * num_splits + split
        tl.store(maxima + part, maximum, mask=is_row)
        tl.store(sums + part, total, mask=is_row)
        if low < high:
            tl.store(out + part[:, None] * HEAD_DIM + dim[None, :], acc, mask=is_element)
    else:
        acc = acc / tl.where(total == 0.0, 1.0, total)[:, None]
        tl.store(out + place[:, None] * HEAD_DIM + dim[None, :], acc.to(out.dtype.element_ty), mask=is_element)


@triton.jit(do_not_specialize=["num_splits"])
def _merge(parts, maxima, sums, out, num_splits, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_S: tl.constexpr):
    """One head of one token: its parts, each with its own maximum and sum."""
    place = tl.program_id(0).to(tl.int64)
    split = tl.arange(0, BLOCK_S)
    is_split = split < num_splits
    dim = tl.arange(0, BLOCK_D)
    part = place * num_splits + split
    maximum = tl.load(maxima + part, mask=is_split, other=-float("inf"))
    total = tl.load(sums + part, mask=is_split, other=0.0)
    largest = tl.max(maximum, 0)
    finite = tl.where(largest == -float("inf"), 0.0, largest)
    factor = tl.exp2(maximum - finite)
    was_stored = total > 0.0
    acc = tl.load(
        parts + part[:, None] * HEAD_DIM + dim[None, :], mask=was_stored[:, None] & (dim < HEAD_DIM)[None, :], other=0.0
    )
    whole = tl.sum(total * factor, 0)
    merged = tl.sum(acc * factor[:, None], 0) / tl.where(whole == 0.0, 1.0, whole)
    tl.store(out + place * HEAD_DIM + dim, merged.to(out.dtype.element_ty), mask=dim < HEAD_DIM)


def paged_attention(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    block_tables: Tensor,
    query_start_loc: Tensor,
    seq_lens: Tensor,
    *,
    num_kv_heads: int,
    head_dim: int,
    scale: float,
    window: int = 0,
    max_query_len: int | None = None,
    k_scale: float = 1.0,
    v_scale: float = 1.0,
) -> Tensor:
    """See `kvik.kernels.paged_attention.paged_attention`."""
    num_tokens, num_heads = q.shape[0], q.shape[1] // head_dim
    num_requests, group = seq_lens.shape[0], num_heads // num_kv_heads
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    if not num_tokens:
        return out
    if q.stride(1) != 1:
        q = q.contiguous()
    is_decode = max_query_len == 1 and num_tokens == num_requests
    block_d = max(16, triton.next_power_of_2(head_dim))
    settings = launch("paged_attention", queries=1 if is_decode else 2, row_bytes=block_d * q.itemsize)
    wanted = settings.pop("programs")
    block_m = max(settings.pop("BLOCK_M"), triton.next_power_of_2(group))
    num_tiles = num_requests if is_decode else num_tokens // (block_m // group) + num_requests
    num_splits = splits_for(num_tiles * num_kv_heads, wanted)
    parts, maxima, sums = out, out, out
    if num_splits > 1:
        parts = q.new_empty((num_tokens, num_heads, num_splits, head_dim), dtype=torch.float32)
        maxima, sums = (q.new_empty((num_tokens, num_heads, num_splits), dtype=torch.float32) for _ in "ms")
    _attend[(num_tiles, num_kv_heads, num_splits)](
        q, k_cache, v_cache, parts, maxima, sums, block_tables, query_start_loc, seq_lens, num_requests, num_splits,
        block_tables.stride(0), q.stride(0), *k_cache.stride(), *v_cache.stride(), scale * k_scale * LOG2E,
        v_scale, HEAD_DIM=head_dim, BLOCK_D=block_d, GROUP=group, NUM_HEADS=num_heads,
        BLOCK_SIZE=k_cache.shape[3], WINDOW=window, IS_SPLIT=num_splits > 1, IS_DECODE=is_decode, BLOCK_M=block_m,
        **settings,
    )  # fmt: skip
    if num_splits > 1:
        _merge[(num_tokens * num_heads,)](
            parts, maxima, sums, out, num_splits, HEAD_DIM=head_dim, BLOCK_D=block_d, BLOCK_S=MAX_SPLITS, num_warps=4
        )
    return out


def splits_for(num_programs: int, wanted: int) -> int:
    """Into how many parts keys are split so that there are `wanted` programs or more."""
    return min(MAX_SPLITS, -(-wanted // num_programs))
