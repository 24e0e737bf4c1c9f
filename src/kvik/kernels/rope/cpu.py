"""rope_and_cache by `kvik._native`. Shapes and dtypes were checked by the caller."""

from __future__ import annotations

from torch import Tensor

from kvik.kernels.arena import empty
from kvik.kernels.runtime import DTYPE_CODES, native


def rope_and_cache(
    qkv: Tensor,
    cos_sin: Tensor,
    positions: Tensor,
    slots: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    num_heads: int,
    num_kv_heads: int,
    q_norm: Tensor | None,
    k_norm: Tensor | None,
    eps: float,
    unit_offset: bool,
) -> Tensor:
    qkv = qkv.contiguous()
    num_tokens, head_dim = qkv.shape[0], cos_sin.shape[1]
    q = empty(num_tokens, num_heads * head_dim)
    native.rope_and_cache(
        q.data_ptr(), qkv.data_ptr(), cos_sin.data_ptr(), positions.data_ptr(), slots.data_ptr(), k_cache.data_ptr(),
        v_cache.data_ptr(), 0 if q_norm is None else q_norm.data_ptr(), 0 if k_norm is None else k_norm.data_ptr(),
        num_tokens, num_heads, num_kv_heads, head_dim, k_cache.shape[3], eps, unit_offset, DTYPE_CODES[k_cache.dtype],
    )  # fmt: skip
    return q
