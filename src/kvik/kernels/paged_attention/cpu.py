"""paged_attention by `kvik._native`. Shapes and dtypes were checked by the caller."""

from __future__ import annotations

from torch import Tensor

from kvik.kernels.arena import empty
from kvik.kernels.runtime import DTYPE_CODES, native

VECTOR = 16
"""The kernel takes keys and head dimensions in vectors of this many, which must not straddle a block."""


def fits(head_dim: int, block_size: int) -> bool:
    """Whether the native kernel takes these sizes."""
    return head_dim % VECTOR == 0 and block_size % VECTOR == 0


def paged_attention(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    block_tables: Tensor,
    query_start_loc: Tensor,
    seq_lens: Tensor,
    num_kv_heads: int,
    head_dim: int,
    scale: float,
    window: int,
) -> Tensor:
    q = q.contiguous()
    num_requests, max_blocks = block_tables.shape
    out = empty(q.shape[0], q.shape[1])
    native.paged_attention(
        out.data_ptr(), q.data_ptr(), k_cache.data_ptr(), v_cache.data_ptr(), block_tables.data_ptr(),
        query_start_loc.data_ptr(), seq_lens.data_ptr(), num_requests, max_blocks, num_kv_heads,
        q.shape[1] // (num_kv_heads * head_dim), head_dim, k_cache.shape[3], scale, window, DTYPE_CODES[k_cache.dtype],
    )  # fmt: skip
    return out
