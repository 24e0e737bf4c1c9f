"""The memory of the KV cache of one layer: its layouts and its allocation. Knows no attention.

Keys are stored so that 16 neighbouring tokens fill one vector, values so that 16 neighbouring dimensions do.
"""

from __future__ import annotations

import mmap

import torch
from torch import Tensor

CACHE_DTYPES = (torch.float16, torch.float32)


def allocate_kv_cache(
    num_blocks: int, num_kv_heads: int, head_dim: int, block_size: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Keys [blocks, Hkv, D, block] and values [blocks, Hkv, block, D], fp16 or fp32, on the CPU; zero until written.

    It is fresh virtual memory: a page takes physical memory when a token is first written to it. Raises ValueError
    for a shape or dtype that has no layout, OSError when the address space is refused.
    """
    if dtype not in CACHE_DTYPES:
        raise ValueError(f"a KV cache is float16 or float32, got {dtype}")
    if min(num_blocks, num_kv_heads, head_dim, block_size) < 1 or head_dim % 2:
        raise ValueError(
            "num_blocks, num_kv_heads and block_size must be at least 1, head_dim even and at least 2, got "
            f"num_blocks={num_blocks}, num_kv_heads={num_kv_heads}, head_dim={head_dim}, block_size={block_size}"
        )
    keys = _untouched([num_blocks, num_kv_heads, head_dim, block_size], dtype)
    return keys, _untouched([num_blocks, num_kv_heads, block_size, head_dim], dtype)


def _untouched(shape: list[int], dtype: torch.dtype) -> Tensor:
    """A tensor on an anonymous private mapping of its own, which lives as long as the tensor does."""
    num_elements = 1
    for size in shape:
        num_elements *= size
    pages = mmap.mmap(-1, num_elements * dtype.itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(pages, dtype=dtype, count=num_elements).view(shape)
