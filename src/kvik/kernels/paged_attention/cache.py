"""The memory of the KV cache of one layer: its layouts and its allocation. Knows no attention.

Keys are stored so that 16 neighbouring tokens fill one vector, values so that 16 neighbouring dimensions do; in bf16
both come in pairs, as the operands of a bf16 dot product.
"""

from __future__ import annotations

import mmap

import torch
from torch import Tensor


def key_shape(num_blocks: int, num_kv_heads: int, head_dim: int, block_size: int, dtype: torch.dtype) -> list[int]:
    """bf16: [blocks, Hkv, D / 2, block, 2]; fp32: [blocks, Hkv, D, block]."""
    if dtype == torch.bfloat16:
        return [num_blocks, num_kv_heads, head_dim // 2, block_size, 2]
    return [num_blocks, num_kv_heads, head_dim, block_size]


def value_shape(num_blocks: int, num_kv_heads: int, head_dim: int, block_size: int, dtype: torch.dtype) -> list[int]:
    """bf16: [blocks, Hkv, block / 2, D, 2]; fp32: [blocks, Hkv, block, D]."""
    if dtype == torch.bfloat16:
        return [num_blocks, num_kv_heads, block_size // 2, head_dim, 2]
    return [num_blocks, num_kv_heads, block_size, head_dim]


def allocate_kv_cache(
    num_blocks: int, num_kv_heads: int, head_dim: int, block_size: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Keys and values of one layer, bf16 or fp32, on the CPU; reads as zero until written.

    It is fresh virtual memory: a page takes physical memory when a token is first written to it. Raises ValueError
    for a shape or dtype that has no layout, OSError when the address space is refused.
    """
    if dtype not in (torch.bfloat16, torch.float32):
        raise ValueError(f"a KV cache is bfloat16 or float32, got {dtype}")
    if min(num_blocks, num_kv_heads, head_dim, block_size) < 1 or head_dim % 2 or block_size % 2:
        raise ValueError(
            "num_blocks and num_kv_heads must be at least 1, head_dim and block_size even and at least 2, got "
            f"num_blocks={num_blocks}, num_kv_heads={num_kv_heads}, head_dim={head_dim}, block_size={block_size}"
        )
    sizes = (num_blocks, num_kv_heads, head_dim, block_size, dtype)
    return _untouched(key_shape(*sizes), dtype), _untouched(value_shape(*sizes), dtype)


def _untouched(shape: list[int], dtype: torch.dtype) -> Tensor:
    """A tensor on an anonymous private mapping of its own, which lives as long as the tensor does."""
    num_elements = 1
    for size in shape:
        num_elements *= size
    pages = mmap.mmap(-1, num_elements * dtype.itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(pages, dtype=dtype, count=num_elements).view(shape)
