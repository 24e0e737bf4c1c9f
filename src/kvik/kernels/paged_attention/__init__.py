"""Causal attention with grouped queries over the paged KV cache: prefill and decode rows in one call."""

from __future__ import annotations

import torch
from torch import Tensor

from kvik.kernels.lazy import LazyModule
from kvik.kernels.paged_attention import cpu, reference
from kvik.kernels.paged_attention.cache import (
    CACHE_DTYPES,
    DTYPES,
    SCALE_ROWS,
    allocate_kv_cache,
    names_of,
    scale_bytes,
)
from kvik.kernels.runtime import runs_native, runs_triton

triton = LazyModule(f"{__name__}.triton")


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
    """softmax(scale q k^T) v per query, [T, Hq * D] fp32, on a GPU in q's dtype.

    q [T, Hq * D] fp32; request b owns the rows [query_start_loc[b], query_start_loc[b + 1]), which are the last tokens
    of its seq_lens[b]. block_tables [B, max_blocks] int32: the block of each stretch of block-size positions; entries
    past the last token, and blocks wholly before the window, are not read. query_start_loc [B + 1] and seq_lens [B]
    int32. A query at position p sees the keys 0..p, or with a window w the keys p - w + 1..p. The caches are those of
    `allocate_kv_cache`; slots that hold no token of the request may hold anything, as may their scales. Nothing is
    rounded to the caches' dtype here. Keys are times `k_scale` and values times `v_scale`, those of fp8. Requests of no
    tokens (seq_lens 0) get zeros. `max_query_len`, most rows of a request, spares a GPU work where it is 1.

    A query's result depends on its own request alone, bit for bit on a CPU. Raises ValueError when shapes disagree.
    """
    if not _fits(q, k_cache, v_cache, block_tables, query_start_loc, seq_lens, num_kv_heads, head_dim):
        raise ValueError(_misfit(q, k_cache, v_cache, block_tables, query_start_loc, seq_lens, num_kv_heads, head_dim))
    if runs_native(q) and cpu.fits(head_dim, k_cache.shape[3]):
        return cpu.paged_attention(
            q, k_cache, v_cache, block_tables, query_start_loc, seq_lens, num_kv_heads, head_dim, scale, window
        )
    if runs_triton(q):
        return triton.paged_attention(
            q, k_cache, v_cache, block_tables, query_start_loc, seq_lens, num_kv_heads=num_kv_heads, head_dim=head_dim,
            scale=scale, window=window, max_query_len=max_query_len, k_scale=k_scale, v_scale=v_scale,
        )  # fmt: skip
    return reference.paged_attention(
        q, k_cache, v_cache, block_tables, query_start_loc, seq_lens,
        num_kv_heads=num_kv_heads, head_dim=head_dim, scale=scale, window=window, k_scale=k_scale, v_scale=v_scale,
    )  # fmt: skip


def _fits(
    q: Tensor, k_cache: Tensor, v_cache: Tensor, block_tables: Tensor, query_start_loc: Tensor, seq_lens: Tensor,
    num_kv_heads: int, head_dim: int,
) -> bool:  # fmt: skip
    """One expression, since it runs once per layer and step; `_misfit` says which part of it is false."""
    num_requests = seq_lens.shape[0]
    on_gpu = runs_triton(q)
    return (
        q.shape[1] % (num_kv_heads * head_dim) == 0
        and query_start_loc.shape[0] == num_requests + 1
        and block_tables.shape[0] == num_requests
        and block_tables.dtype is query_start_loc.dtype is seq_lens.dtype is torch.int32
        and block_tables.stride(1) == 1
        and query_start_loc.is_contiguous()
        and seq_lens.is_contiguous()
        and q.dtype in DTYPES[on_gpu]
        and k_cache.dtype is v_cache.dtype
        and k_cache.dtype in CACHE_DTYPES[on_gpu]
        and k_cache.shape[2] == head_dim + SCALE_ROWS[k_cache.dtype]
        and k_cache.shape[1] == num_kv_heads == v_cache.shape[1]
        and v_cache.shape[3] == head_dim
        and (on_gpu or (k_cache.is_contiguous() and v_cache.is_contiguous() and block_tables.is_contiguous()))
    )


def _misfit(
    q: Tensor, k_cache: Tensor, v_cache: Tensor, block_tables: Tensor, query_start_loc: Tensor, seq_lens: Tensor,
    num_kv_heads: int, head_dim: int,
) -> str:  # fmt: skip
    num_requests = seq_lens.shape[0]
    on_gpu = runs_triton(q)
    indices = (block_tables, query_start_loc, seq_lens)
    if q.shape[1] % (num_kv_heads * head_dim):
        return f"q must be [T, Hq * {head_dim}] with Hq a multiple of {num_kv_heads} key heads, got {list(q.shape)}"
    if query_start_loc.shape[0] != num_requests + 1 or block_tables.shape[0] != num_requests:
        return (
            f"{num_requests} requests need {num_requests + 1} query starts and {num_requests} block tables, got "
            f"{query_start_loc.shape[0]} and {block_tables.shape[0]}"
        )
    if not all(index.dtype is torch.int32 and (on_gpu or index.is_contiguous()) for index in indices):
        found = ", ".join(f"{index.dtype} with stride {index.stride()}" for index in indices)
        return f"block_tables, query_start_loc and seq_lens must be contiguous int32, got {found}"
    is_stored = k_cache.dtype is v_cache.dtype and k_cache.dtype in CACHE_DTYPES[on_gpu]
    if q.dtype not in DTYPES[on_gpu] or not is_stored:
        wanted = "one of " + names_of(DTYPES[on_gpu]) if on_gpu else "torch.float32"
        dtypes = f"{q.dtype}, {k_cache.dtype} and {v_cache.dtype}"
        return f"q must be {wanted} and the caches both one of {names_of(CACHE_DTYPES[on_gpu])}, got {dtypes}"
    if on_gpu:
        return (
            f"the caches must have {num_kv_heads} heads of {head_dim}, and all indices stride 1 in their last "
            f"dimension, got K {list(k_cache.shape)}, V {list(v_cache.shape)} and strides "
            f"{', '.join(str(index.stride()) for index in indices)}"
        )
    return (
        f"the caches must be contiguous with {num_kv_heads} heads of {head_dim}, and 8 rows of scales behind int8 "
        f"keys, got K {list(k_cache.shape)} and V {list(v_cache.shape)} with strides {k_cache.stride()} and "
        f"{v_cache.stride()}"
    )


__all__ = ["allocate_kv_cache", "paged_attention", "scale_bytes"]
