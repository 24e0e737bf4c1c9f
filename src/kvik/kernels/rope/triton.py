"""rope_and_cache in Triton: a program has some heads of one token, be they of q, k or v."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kvik.kernels.launch import launch
from kvik.kernels.paged_attention.cache import FP8_LARGEST


@triton.jit
def _in_range(x, dtype: tl.constexpr):
    """What fp16 and fp8 cannot hold becomes their largest number; NaN stays."""
    if dtype == tl.float16:
        x = tl.where(x > 65504.0, 65504.0, tl.where(x < -65504.0, -65504.0, x))
    elif dtype == tl.float8e4nv:
        x = tl.where(x > 448.0, 448.0, tl.where(x < -448.0, -448.0, x))
    elif dtype == tl.float8e5:
        x = tl.where(x > 57344.0, 57344.0, tl.where(x < -57344.0, -57344.0, x))
    return x


@triton.jit
def _rope_and_cache(
    qkv, cos_sin, positions, slots, k_cache, v_cache, q_norm, k_norm, out, qkv_stride, k_block, k_head, k_dim, k_slot,
    v_block, v_head, v_slot, v_dim, eps, k_factor, v_factor,
    NUM_HEADS: tl.constexpr, NUM_KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_HALF: tl.constexpr,
    BLOCK_SIZE: tl.constexpr, HAS_Q_NORM: tl.constexpr, HAS_K_NORM: tl.constexpr, UNIT_OFFSET: tl.constexpr,
    BLOCK_H: tl.constexpr,
):  # fmt: skip
    HALF: tl.constexpr = HEAD_DIM // 2
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)
    dim = tl.arange(0, BLOCK_HALF)
    is_q = head < NUM_HEADS
    is_k = (head >= NUM_HEADS) & (head < NUM_HEADS + NUM_KV_HEADS)
    is_v = (head >= NUM_HEADS + NUM_KV_HEADS) & (head < NUM_HEADS + 2 * NUM_KV_HEADS)
    is_dim = dim < HALF
    inside = (head < NUM_HEADS + 2 * NUM_KV_HEADS)[:, None] & is_dim[None, :]
    dtype = qkv.dtype.element_ty
    source = qkv + token * qkv_stride + (head * HEAD_DIM)[:, None] + dim[None, :]
    first = tl.load(source, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(source + HALF, mask=inside, other=0.0).to(tl.float32)

    if HAS_Q_NORM or HAS_K_NORM:
        scale = tl.rsqrt((tl.sum(first * first, 1) + tl.sum(second * second, 1)) / HEAD_DIM + eps)[:, None]
        if HAS_Q_NORM:
            first = tl.where(is_q[:, None], _normed(first, scale, q_norm + dim, is_dim, dtype, UNIT_OFFSET), first)
            second = tl.where(
                is_q[:, None], _normed(second, scale, q_norm + HALF + dim, is_dim, dtype, UNIT_OFFSET), second
            )
        if HAS_K_NORM:
            first = tl.where(is_k[:, None], _normed(first, scale, k_norm + dim, is_dim, dtype, UNIT_OFFSET), first)
            second = tl.where(
                is_k[:, None], _normed(second, scale, k_norm + HALF + dim, is_dim, dtype, UNIT_OFFSET), second
            )

    row = cos_sin + tl.load(positions + token).to(tl.int64) * HEAD_DIM
    cos = tl.load(row + dim, mask=is_dim, other=0.0)[None, :]
    sin = tl.load(row + HALF + dim, mask=is_dim, other=0.0)[None, :]
    turned_first = tl.where(is_v[:, None], first, first * cos - second * sin)
    turned_second = tl.where(is_v[:, None], second, second * cos + first * sin)

    place = out + (token * NUM_HEADS + head)[:, None] * HEAD_DIM + dim[None, :]
    tl.store(place, turned_first.to(dtype), mask=inside & is_q[:, None])
    tl.store(place + HALF, turned_second.to(dtype), mask=inside & is_q[:, None])

    slot = tl.load(slots + token).to(tl.int64)
    is_kept = slot + tl.zeros([BLOCK_H], tl.int64) >= 0
    page = slot // BLOCK_SIZE
    offset = slot % BLOCK_SIZE
    stored: tl.constexpr = k_cache.dtype.element_ty
    key = k_cache + page * k_block + offset * k_slot + ((head - NUM_HEADS) * k_head)[:, None] + (dim * k_dim)[None, :]
    is_key = inside & (is_k & is_kept)[:, None]
    tl.store(key, _in_range(turned_first * k_factor, stored).to(stored), mask=is_key)
    tl.store(key + HALF * k_dim, _in_range(turned_second * k_factor, stored).to(stored), mask=is_key)
    v_index = head - NUM_HEADS - NUM_KV_HEADS
    value = v_cache + page * v_block + offset * v_slot + (v_index * v_head)[:, None] + (dim * v_dim)[None, :]
    is_value = inside & (is_v & is_kept)[:, None]
    tl.store(value, _in_range(first * v_factor, stored).to(stored), mask=is_value)
    tl.store(value + HALF * v_dim, _in_range(second * v_factor, stored).to(stored), mask=is_value)


@triton.jit
def _normed(x, scale, weight, is_dim, dtype: tl.constexpr, UNIT_OFFSET: tl.constexpr):
    factor = tl.load(weight, mask=is_dim, other=0.0).to(tl.float32)[None, :]
    if UNIT_OFFSET:
        normed = x * scale * (1.0 + factor)
    else:
        normed = (x * scale).to(dtype).to(tl.float32) * factor
    return normed.to(dtype).to(tl.float32)


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
    num_tokens, head_dim = qkv.shape[0], cos_sin.shape[1]
    if qkv.stride(1) != 1:
        qkv = qkv.contiguous()
    out = torch.empty((num_tokens, num_heads * head_dim), dtype=qkv.dtype, device=qkv.device)
    is_fp8 = k_cache.dtype in FP8_LARGEST
    settings = launch("rope", head_dim=head_dim)
    grid = (num_tokens, triton.cdiv(num_heads + 2 * num_kv_heads, settings["BLOCK_H"]))
    if num_tokens:
        _rope_and_cache[grid](
            qkv, cos_sin, positions, slots, k_cache, v_cache, qkv if q_norm is None else q_norm,
            qkv if k_norm is None else k_norm, out, qkv.stride(0), *k_cache.stride(), *v_cache.stride(), eps,
            1.0 / k_scale if is_fp8 else 1.0, 1.0 / v_scale if is_fp8 else 1.0,
            NUM_HEADS=num_heads, NUM_KV_HEADS=num_kv_heads, HEAD_DIM=head_dim,
            BLOCK_HALF=triton.next_power_of_2(head_dim // 2), BLOCK_SIZE=k_cache.shape[3],
            HAS_Q_NORM=q_norm is not None, HAS_K_NORM=k_norm is not None, UNIT_OFFSET=unit_offset, **settings,
        )  # fmt: skip
    return out
