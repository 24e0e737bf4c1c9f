"""Rotary embedding and the write into the KV cache, in plain torch. Runs on any device; is what the others must equal.

Knows the layouts of the cache, not who owns its blocks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kvik.kernels.paged_attention.cache import FP8_LARGEST, scales_of
from kvik.kernels.rms_norm.reference import rms_norm


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
    """See `kvik.kernels.rope.rope_and_cache`."""
    num_tokens = qkv.shape[0]
    head_dim = qkv.shape[1] // (num_heads + 2 * num_kv_heads)
    heads = qkv.view(num_tokens, num_heads + 2 * num_kv_heads, head_dim)
    q, k = heads[:, :num_heads], heads[:, num_heads:-num_kv_heads]
    v = heads[:, -num_kv_heads:]
    if q_norm is not None:
        q = rms_norm(q, q_norm, eps, unit_offset=unit_offset)
    if k_norm is not None:
        k = rms_norm(k, k_norm, eps, unit_offset=unit_offset)
    rows = cos_sin[positions.long()]
    kept = slots >= 0
    slots = slots[kept].long()
    blocks, offset = slots // k_cache.shape[3], slots % k_cache.shape[3]
    k, v = _rotate(k, rows)[kept], v[kept]
    if k_cache.dtype is torch.int8:
        k_scales, v_scales = scales_of(k_cache, head_dim)
        k, k_scales[blocks, :, offset] = _to_int8(k)
        v, v_scales[blocks, :, offset] = _to_int8(v)
    if k_cache.dtype in FP8_LARGEST:
        k, v = k * (1.0 / k_scale), v.float() * (1.0 / v_scale)
    k_cache[blocks, :, :head_dim, offset] = _in_range(k, k_cache.dtype)
    v_cache[blocks, :, offset] = _in_range(v, v_cache.dtype)
    return _rotate(q, rows).reshape(num_tokens, num_heads * head_dim).to(qkv.dtype)


def _rotate(x: Tensor, cos_sin_rows: Tensor) -> Tensor:
    """x [T, H, D] by its tokens' rows of the table."""
    cos, sin = cos_sin_rows[:, None, :].chunk(2, dim=-1)  # [T, 1, D / 2] each
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos + -second * sin, second * cos + first * sin], dim=-1)


def _to_int8(x: Tensor) -> tuple[Tensor, Tensor]:
    """x [T, H, D] as whole numbers of -127..127, still fp32, and their scales [T, H]: the largest size / 127.

    A row that holds NaN has the scale NaN.
    """
    ends = torch.finfo(torch.float32)
    x = x.clamp(ends.min, ends.max)
    scales = x.abs().amax(dim=-1) / 127
    steps = torch.where(scales == 0, 1.0, scales)
    return (x / steps[..., None]).round().clamp(-127, 127).nan_to_num(-127), scales


def _in_range(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Rounded to dtype; beyond its ends, its last finite number. NaN stays NaN."""
    end = {torch.float16: 65504.0, **FP8_LARGEST}.get(dtype)
    return x.to(dtype) if end is None else x.clamp(-end, end).to(dtype)
