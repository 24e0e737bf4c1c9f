"""Attention over a paged KV cache, in plain torch. Runs on any device; shows the order of the sums.

Keys come in fixed partitions of 512 at absolute positions. Each has its own maximum and sum; they are merged in
ascending order, as in Flash-Decoding (Dao et al., 2023).
"""

from __future__ import annotations

import torch
from torch import Tensor

from kvik.kernels.paged_attention.cache import scales_of

PARTITION = 512
"""Keys per partition: partition i holds the absolute positions [512 i, 512 i + 512)."""


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
    k_scale: float = 1.0,
    v_scale: float = 1.0,
) -> Tensor:
    """See `kvik.kernels.paged_attention.paged_attention`."""
    heads = q.view(q.shape[0], -1, head_dim)
    out = torch.zeros_like(heads)
    starts, lengths = query_start_loc.tolist(), seq_lens.tolist()
    for b, seq_len in enumerate(lengths):
        start, end = starts[b], starts[b + 1]
        if start == end or not seq_len:
            continue
        first_position = seq_len - (end - start)
        first_key = max(0, first_position - window + 1) if window else 0
        keys, values = gather(k_cache, v_cache, block_tables[b], first_key, seq_len)
        keys, values = keys * k_scale, values * v_scale
        out[start:end] = _attend(
            heads[start:end].float(), keys, values, first_position, first_key, num_kv_heads, scale, window
        )
    return out.view(q.shape)


def gather(k_cache: Tensor, v_cache: Tensor, block_table: Tensor, first: int, end: int) -> tuple[Tensor, Tensor]:
    """Keys and values at the positions [first, end), each [Hkv, n, D] in fp32. No other slot is read."""
    block_size = k_cache.shape[3]
    positions = torch.arange(first, end, device=k_cache.device)
    blocks = block_table[positions // block_size].long()
    offset = positions % block_size
    head_dim = v_cache.shape[3]
    keys, values = k_cache[blocks, :, :head_dim, offset].float(), v_cache[blocks, :, offset].float()  # [n, Hkv, D]
    if k_cache.dtype is torch.int8:
        k_scales, v_scales = scales_of(k_cache, head_dim)
        keys, values = keys * k_scales[blocks, :, offset, None], values * v_scales[blocks, :, offset, None]
    return keys.transpose(0, 1), values.transpose(0, 1)


def _attend(
    q: Tensor, keys: Tensor, values: Tensor, first_position: int, first_key: int, num_kv_heads: int, scale: float,
    window: int,
) -> Tensor:  # fmt: skip
    """q [n, Hq, D] at the positions from `first_position`; keys and values [Hkv, m, D] from `first_key`."""
    num_queries, num_heads, head_dim = q.shape
    group = num_heads // num_kv_heads
    rows = q.view(num_queries, num_kv_heads, group, head_dim).permute(1, 2, 0, 3)  # [Hkv, G, n, D]
    query_at = torch.arange(first_position, first_position + num_queries, device=q.device)[:, None]
    maximum = rows.new_full((*rows.shape[:3], 1), -torch.inf)
    total = torch.zeros_like(maximum)
    acc = torch.zeros_like(rows)
    end = first_key + keys.shape[1]
    for low in range(first_key - first_key % PARTITION, end, PARTITION):
        part = slice(max(low, first_key) - first_key, min(low + PARTITION, end) - first_key)
        key_at = torch.arange(part.start + first_key, part.stop + first_key, device=q.device)
        visible = key_at <= query_at
        if window:
            visible &= key_at > query_at - window
        scores = (rows @ keys[:, None, part].transpose(-1, -2) * scale).masked_fill(~visible, -torch.inf)
        maximum, total, acc = _merge(maximum, total, acc, scores, values[:, None, part])
    return (acc / total).permute(2, 0, 1, 3).reshape(num_queries, num_heads, head_dim)


def _merge(
    maximum: Tensor, total: Tensor, acc: Tensor, scores: Tensor, values: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Fold one partition's scores into the running maximum, sum of weights and weighted sum of values."""
    part_max = scores.amax(dim=-1, keepdim=True)
    weights = torch.exp(scores - part_max.clamp(min=torch.finfo(torch.float32).min))  # a fully masked row gives zeros
    part_total = weights.sum(dim=-1, keepdim=True)
    part_acc = weights @ values
    new_max = torch.maximum(maximum, part_max)
    finite = new_max.clamp(min=torch.finfo(torch.float32).min)
    old_factor, part_factor = torch.exp(maximum - finite), torch.exp(part_max - finite)
    return new_max, total * old_factor + part_total * part_factor, acc * old_factor + part_acc * part_factor
