"""Rotary position embedding of queries and keys, and the write of keys and values into the paged cache."""

from __future__ import annotations

import torch
from torch import Tensor

from kvik.kernels.lazy import LazyModule
from kvik.kernels.paged_attention.cache import CACHE_DTYPES, DTYPES, SCALE_ROWS, names_of
from kvik.kernels.rope import cpu, reference
from kvik.kernels.runtime import runs_native, runs_triton

triton = LazyModule(f"{__name__}.triton")


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
    k_scale: float = 1.0,
    v_scale: float = 1.0,
) -> Tensor:
    """Rotate q and k ("rotate half": dimension d pairs with d + D / 2), store k and v, return q [T, Hq * D].

    qkv [T, (Hq + 2 Hkv) * D] fp32: the heads of q, then of k, then of v; not written to. cos_sin [max_pos, D] fp32:
    per position D / 2 cosines, then D / 2 sines. positions [T] int32 within the table. slots [T] int32: block id x
    block size + offset; a negative slot is not written. k_cache and v_cache: of
    `allocate_kv_cache`. With q_norm and k_norm [D] fp32 each head goes through an RMS norm (see `rms_norm`) before the
    rotation.

    All is computed in fp32; on a GPU qkv, norms and q may be of another float dtype, to which q is rounded, and what a
    norm gives. k and v are rounded to the caches' dtype once, as they are written. What fp16 cannot hold is stored as
    its largest number, 65504, with its sign. To int8 each token's key and value of a head is scaled by its largest size
    / 127 and rounded to even. To fp8 it is divided by `k_scale`, or `v_scale`, and what is beyond 448 becomes 448,
    of e5m2 57344.
    Raises ValueError when shapes or dtypes disagree.
    """
    if not _fits(qkv, cos_sin, positions, slots, k_cache, v_cache, num_heads, num_kv_heads):
        raise ValueError(_misfit(qkv, cos_sin, positions, slots, k_cache, v_cache, num_heads, num_kv_heads))
    if q_norm is not None or k_norm is not None:
        _check_norms(cos_sin.shape[1], qkv.dtype, q_norm, k_norm)
    if runs_triton(qkv):
        return triton.rope_and_cache(
            qkv, cos_sin, positions, slots, k_cache, v_cache, num_heads=num_heads, num_kv_heads=num_kv_heads,
            q_norm=q_norm, k_norm=k_norm, eps=eps, unit_offset=unit_offset, k_scale=k_scale, v_scale=v_scale,
        )  # fmt: skip
    if runs_native(qkv):
        return cpu.rope_and_cache(
            qkv, cos_sin, positions, slots, k_cache, v_cache, num_heads, num_kv_heads, q_norm, k_norm, eps, unit_offset
        )
    return reference.rope_and_cache(
        qkv, cos_sin, positions, slots, k_cache, v_cache, num_heads=num_heads, num_kv_heads=num_kv_heads,
        q_norm=q_norm, k_norm=k_norm, eps=eps, unit_offset=unit_offset, k_scale=k_scale, v_scale=v_scale,
    )  # fmt: skip


def _fits(
    qkv: Tensor, cos_sin: Tensor, positions: Tensor, slots: Tensor, k_cache: Tensor, v_cache: Tensor, num_heads: int,
    num_kv_heads: int,
) -> bool:  # fmt: skip
    """One expression, since it runs once per layer and step; `_misfit` says which part of it is false."""
    num_tokens, width = qkv.shape
    head_dim = cos_sin.shape[1]
    on_gpu = runs_triton(qkv)
    return (
        width == (num_heads + 2 * num_kv_heads) * head_dim
        and head_dim % 2 == 0
        and positions.shape[0] == num_tokens == slots.shape[0]
        and positions.dtype is slots.dtype is torch.int32
        and positions.is_contiguous()
        and slots.is_contiguous()
        and cos_sin.dtype is torch.float32
        and qkv.dtype in DTYPES[on_gpu]
        and k_cache.dtype is v_cache.dtype
        and k_cache.dtype in CACHE_DTYPES[on_gpu]
        and k_cache.shape[2] == head_dim + SCALE_ROWS[k_cache.dtype]
        and k_cache.shape[1] == num_kv_heads == v_cache.shape[1]
        and v_cache.shape[3] == head_dim
        and cos_sin.is_contiguous()
        and (on_gpu or (k_cache.is_contiguous() and v_cache.is_contiguous()))
    )


def _misfit(
    qkv: Tensor, cos_sin: Tensor, positions: Tensor, slots: Tensor, k_cache: Tensor, v_cache: Tensor, num_heads: int,
    num_kv_heads: int,
) -> str:  # fmt: skip
    head_dim = cos_sin.shape[1]
    on_gpu = runs_triton(qkv)
    width = (num_heads + 2 * num_kv_heads) * head_dim
    if qkv.shape[1] != width or head_dim % 2:
        return (
            f"qkv must be [T, {width}] for {num_heads} query heads and {num_kv_heads} key heads of the table's even "
            f"head_dim {head_dim}, got {list(qkv.shape)}"
        )
    if not positions.shape[0] == qkv.shape[0] == slots.shape[0]:
        return f"positions and slots must have qkv's {qkv.shape[0]} rows, got {positions.shape[0]} and {slots.shape[0]}"
    if not (positions.dtype is slots.dtype is torch.int32 and positions.is_contiguous() and slots.is_contiguous()):
        return (
            f"positions and slots must be contiguous int32, got {positions.dtype} with stride {positions.stride()} and "
            f"{slots.dtype} with stride {slots.stride()}"
        )
    if qkv.dtype not in DTYPES[on_gpu] or cos_sin.dtype is not torch.float32:
        wanted = f"qkv must be one of {names_of(DTYPES[on_gpu])} and cos_sin" if on_gpu else "qkv and cos_sin must be"
        return f"{wanted} torch.float32, got {qkv.dtype} and {cos_sin.dtype}"
    if k_cache.dtype is not v_cache.dtype or k_cache.dtype not in CACHE_DTYPES[on_gpu]:
        possible = names_of(CACHE_DTYPES[on_gpu])
        return f"the caches must both be one of {possible}, got {k_cache.dtype} and {v_cache.dtype}"
    return (
        f"cos_sin{'' if on_gpu else ' and the caches'} must be contiguous, the caches with {num_kv_heads} heads of "
        f"{head_dim} and 8 rows of scales behind int8 keys; got K {list(k_cache.shape)} and V {list(v_cache.shape)} "
        f"with strides {k_cache.stride()} and {v_cache.stride()}"
    )


def _check_norms(head_dim: int, dtype: torch.dtype, *norms: Tensor | None) -> None:
    for norm in norms:
        if norm is not None and (norm.shape != (head_dim,) or norm.dtype is not dtype):
            raise ValueError(f"q_norm and k_norm must be [{head_dim}] {dtype}, got {list(norm.shape)} {norm.dtype}")


__all__ = ["rope_and_cache"]
