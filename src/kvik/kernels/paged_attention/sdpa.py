"""Paged attention by torch's scaled_dot_product_attention: request by request, its keys gathered first. Any device.

Slow, for it waits for the lengths and copies every key; for comparing, and for GPUs on which nothing else works.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from kvik.kernels.paged_attention.reference import gather


def torch_sdpa(
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
    """See `kvik.kernels.paged_attention.paged_attention`; `num_kv_heads` and `max_query_len` are not needed here."""
    out = torch.zeros_like(q)
    heads, rows = q.view(q.shape[0], -1, head_dim), out.view(q.shape[0], -1, head_dim)
    starts, lengths = query_start_loc.tolist(), seq_lens.tolist()
    for b, seq_len in enumerate(lengths):
        start, end = starts[b], starts[b + 1]
        if start == end or not seq_len:
            continue
        context = seq_len - (end - start)
        first_key = max(0, context - window + 1) if window else 0
        keys, values = gather(k_cache, v_cache, block_tables[b], first_key, seq_len)
        found = scaled_dot_product_attention(
            heads[start:end].transpose(0, 1)[None], (keys * k_scale).to(q.dtype)[None],
            (values * v_scale).to(q.dtype)[None], attn_mask=_visible(context, first_key, seq_len, window, q.device),
            scale=scale, enable_gqa=True,
        )  # fmt: skip
        rows[start:end] = found[0].transpose(0, 1)
    return out


def _visible(context: int, first_key: int, seq_len: int, window: int, device: torch.device) -> Tensor:
    """[n, m]: whether the query at context + i sees the key at first_key + j."""
    query_at = torch.arange(context, seq_len, device=device)[:, None]
    key_at = torch.arange(first_key, seq_len, device=device)
    visible = key_at <= query_at
    return visible & (key_at > query_at - window) if window else visible
