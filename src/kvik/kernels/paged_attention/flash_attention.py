"""Paged attention by the flash-attn packages: version 3 (`flash_attn_interface`) and version 2 (`flash_attn`).

Our caches are theirs already, seen from another side: they want [blocks, block, Hkv, D], which is the memory's order.
"""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor


class FlashAttention3:
    """By flash_attn_with_kvcache, whose pages may be of any size."""

    def __init__(self) -> None:
        self._library: Any = importlib.import_module("flash_attn_interface")

    def __call__(
        self,
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
        out: Tensor = self._library.flash_attn_with_kvcache(
            q.view(q.shape[0], -1, head_dim), *token_major(k_cache, v_cache), cache_seqlens=seq_lens,
            page_table=block_tables, cu_seqlens_q=query_start_loc, max_seqlen_q=max_query_len or q.shape[0],
            softmax_scale=scale * k_scale, causal=True, window_size=window_size(window),
        )  # fmt: skip
        return _scaled(out.reshape(q.shape), v_scale)


class FlashAttention2:
    """By flash_attn_varlen_func, whose pages are of multiples of 256 tokens."""

    def __init__(self) -> None:
        self._library: Any = importlib.import_module("flash_attn")

    def __call__(
        self,
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
        key_start_loc = torch.zeros_like(query_start_loc)
        torch.cumsum(seq_lens, 0, dtype=torch.int32, out=key_start_loc[1:])
        out: Tensor = self._library.flash_attn_varlen_func(
            q.view(q.shape[0], -1, head_dim), *token_major(k_cache, v_cache), cu_seqlens_q=query_start_loc,
            cu_seqlens_k=key_start_loc, max_seqlen_q=max_query_len or q.shape[0],
            max_seqlen_k=block_tables.shape[1] * k_cache.shape[3], softmax_scale=scale * k_scale, causal=True,
            window_size=window_size(window), block_table=block_tables,
        )  # fmt: skip
        return _scaled(out.reshape(q.shape), v_scale)


def token_major(k_cache: Tensor, v_cache: Tensor) -> tuple[Tensor, Tensor]:
    """The caches as [blocks, block, Hkv, D]: views."""
    return k_cache.permute(0, 3, 1, 2), v_cache.permute(0, 2, 1, 3)


def window_size(window: int) -> tuple[int, int]:
    """How many keys before and behind its own a query sees; -1: all. `window` counts its own, too."""
    return (window - 1, 0) if window else (-1, -1)


def _scaled(out: Tensor, v_scale: float) -> Tensor:
    return out if v_scale == 1.0 else out * v_scale
