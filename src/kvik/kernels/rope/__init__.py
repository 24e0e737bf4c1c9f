"""Rotary position embedding of queries and keys, and the write of keys and values into the paged cache."""

from __future__ import annotations

import torch
from torch import Tensor

from kvik.kernels.rope import cpu, reference
from kvik.kernels.runtime import runs_native


def rope_and_cache(
    qkv: Tensor,
    cos_sin: Tensor,
    positions: Tensor,
    slots: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    *,
    num_heads: int,
    num_kv_heads: int,
    q_norm: Tensor | None = None,
    k_norm: Tensor | None = None,
    eps: float = 0.0,
    unit_offset: bool = False,
) -> Tensor:
    """Rotate q and k ("rotate half": dimension d pairs with d + D / 2), store k and v, return q [T, Hq * D].

    qkv [T, (Hq + 2 Hkv) * D]: the heads of q, then of k, then of v; not written to. cos_sin [max_pos, D]: per position
    D / 2 cosines, then D / 2 sines, in qkv's dtype. positions [T] int32 within the table. slots [T] int32: block id x
    block size + offset; a negative slot is not written. k_cache and v_cache: layouts of `paged_attention`. With q_norm
    and k_norm [D] each head goes through an RMS norm (see `rms_norm`) before the rotation.

    The two products and their sum are rounded to the dtype, one by one. Raises ValueError when shapes disagree.
    """
    _check(qkv, cos_sin, positions, slots, k_cache, v_cache, num_heads, num_kv_heads)
    _check_norms(qkv, cos_sin.shape[1], q_norm, k_norm)
    if runs_native(qkv):
        return cpu.rope_and_cache(
            qkv, cos_sin, positions, slots, k_cache, v_cache, num_heads, num_kv_heads, q_norm, k_norm, eps, unit_offset
        )
    return reference.rope_and_cache(
        qkv, cos_sin, positions, slots, k_cache, v_cache, num_heads=num_heads, num_kv_heads=num_kv_heads,
        q_norm=q_norm, k_norm=k_norm, eps=eps, unit_offset=unit_offset,
    )  # fmt: skip


def _check(
    qkv: Tensor, cos_sin: Tensor, positions: Tensor, slots: Tensor, k_cache: Tensor, v_cache: Tensor, num_heads: int,
    num_kv_heads: int,
) -> None:  # fmt: skip
    head_dim = cos_sin.shape[1]
    width = (num_heads + 2 * num_kv_heads) * head_dim
    if qkv.shape[1] != width or head_dim % 2:
        raise ValueError(
            f"qkv must be [T, {width}] for {num_heads} query heads and {num_kv_heads} key heads of the table's even "
            f"head_dim {head_dim}, got {list(qkv.shape)}"
        )
    if positions.shape[0] != qkv.shape[0] or slots.shape[0] != qkv.shape[0]:
        raise ValueError(
            f"positions and slots must have qkv's {qkv.shape[0]} rows, got {positions.shape[0]} and {slots.shape[0]}"
        )
    if not (positions.dtype is torch.int32 is slots.dtype and positions.is_contiguous() and slots.is_contiguous()):
        raise ValueError(
            f"positions and slots must be contiguous int32, got {positions.dtype} with stride {positions.stride()} and "
            f"{slots.dtype} with stride {slots.stride()}"
        )
    if not (cos_sin.is_contiguous() and k_cache.is_contiguous() and v_cache.is_contiguous()):
        raise ValueError("cos_sin and the caches must be contiguous")
    if not qkv.dtype == cos_sin.dtype == k_cache.dtype == v_cache.dtype:
        raise ValueError(
            "qkv, cos_sin and the caches must share one dtype, got "
            f"{qkv.dtype}, {cos_sin.dtype}, {k_cache.dtype} and {v_cache.dtype}"
        )
    if k_cache.shape[1] != num_kv_heads or v_cache.shape[1] != num_kv_heads or v_cache.shape[3] != head_dim:
        raise ValueError(
            f"the caches must hold {num_kv_heads} heads of {head_dim}, got K {list(k_cache.shape)} and V "
            f"{list(v_cache.shape)}"
        )


def _check_norms(qkv: Tensor, head_dim: int, *norms: Tensor | None) -> None:
    for norm in norms:
        if norm is not None and (norm.shape != (head_dim,) or norm.dtype is not qkv.dtype):
            raise ValueError(
                f"q_norm and k_norm must be [{head_dim}] in {qkv.dtype}, got {list(norm.shape)} {norm.dtype}"
            )


__all__ = ["rope_and_cache"]
