"""The memory of the KV cache of one layer: its layouts and its allocation. Knows no attention.

Keys are stored so that 16 neighbouring tokens fill one vector, values so that 16 neighbouring dimensions do. int8 is
symmetric, with one fp32 scale per token and head; the scales of a block, first those of its keys, then those of its
values, are the bytes of 8 more rows behind its keys. fp8 is a GPU's, with one scale for all keys of a layer and one for
all values, which the caller keeps.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable

import torch
from torch import Tensor

SCALE_ROWS = {
    torch.float16: 0, torch.bfloat16: 0, torch.float32: 0, torch.int8: 2 * torch.float32.itemsize,
    torch.float8_e4m3fn: 0, torch.float8_e5m2: 0,
}  # fmt: skip
"""The dtypes of caches, and how many rows of scales they have behind the keys of a block."""
FP8_LARGEST = {torch.float8_e4m3fn: 448.0, torch.float8_e5m2: 57344.0}
"""The dtypes of 8 bits, and the largest number of each."""
_FLOATS = (torch.float16, torch.bfloat16, torch.float32)
CACHE_DTYPES = {False: (*_FLOATS, torch.int8), True: (*_FLOATS, *FP8_LARGEST)}
"""Those of caches on a CPU, and on a GPU."""
DTYPES = {False: (torch.float32,), True: _FLOATS}
"""Those of queries, keys and values before they are stored."""

_HUGE_PAGE_BYTES = 2 * 1024**2


def allocate_kv_cache(
    num_blocks: int,
    num_kv_heads: int,
    head_dim: int,
    block_size: int,
    dtype: torch.dtype,
    device: torch.device | None = None,
) -> tuple[Tensor, Tensor]:
    """Keys [blocks, Hkv, D, block] and values [blocks, Hkv, block, D] on the CPU; zero until written.

    With `device`, a GPU or what stands in for one, both are views of memory [blocks, block, Hkv, D], in which a token's
    numbers lie together, as GPUs and the libraries for them want it.

    dtype: fp16, bf16, fp32 or, on a CPU, int8, whose keys are [blocks, Hkv, D + 8, block], or, on a GPU, fp8
    (e4m3 or e5m2). On a CPU it is fresh virtual memory: a page takes physical memory when a token is first written to
    it. Raises ValueError for a shape or dtype that has no layout, OSError when the address space is refused.
    """
    on_gpu = device is not None
    if dtype not in CACHE_DTYPES[on_gpu]:
        place = " on a GPU" if on_gpu else ""
        raise ValueError(f"a KV cache{place} is one of {names_of(CACHE_DTYPES[on_gpu])}, got {dtype}")
    step = 4 if SCALE_ROWS[dtype] else 2  # scales are aligned
    if min(num_blocks, num_kv_heads, head_dim, block_size) < 1 or head_dim % step:
        raise ValueError(
            f"num_blocks, num_kv_heads and block_size must be at least 1, head_dim a multiple of {step}, got "
            f"num_blocks={num_blocks}, num_kv_heads={num_kv_heads}, head_dim={head_dim}, block_size={block_size}"
        )
    if device is not None:
        keys, values = (
            torch.zeros(num_blocks, block_size, num_kv_heads, head_dim, dtype=dtype, device=device) for _ in "kv"
        )
        return keys.permute(0, 2, 3, 1), values.permute(0, 2, 1, 3)
    keys = _untouched([num_blocks, num_kv_heads, head_dim + SCALE_ROWS[dtype], block_size], dtype)
    return keys, _untouched([num_blocks, num_kv_heads, block_size, head_dim], dtype)


def names_of(dtypes: Iterable[torch.dtype]) -> str:
    return ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)


def scale_bytes(dtype: torch.dtype) -> int:
    """Bytes of scale beside each token's key, and beside its value, of each head."""
    return SCALE_ROWS[dtype] // 2


def scales_of(k_cache: Tensor, head_dim: int) -> tuple[Tensor, Tensor]:
    """Views [blocks, Hkv, block] fp32 of the scales of an int8 cache: those of the keys, those of the values."""
    num_blocks, num_kv_heads, _, block_size = k_cache.shape
    rows = k_cache.view(num_blocks, num_kv_heads, -1)[:, :, head_dim * block_size :]
    scales = rows.view(torch.float32)
    return scales[..., :block_size], scales[..., block_size:]


def _untouched(shape: list[int], dtype: torch.dtype) -> Tensor:
    """A tensor on an anonymous private mapping of its own, which lives as long as the tensor does.

    Huge pages, where it fills some: prompts are written at 8 times the speed, for the kernel gives out a page of 4 KiB
    at a time otherwise, and attention, which hops from block to block, finds their addresses in the TLB.
    """
    num_elements = 1
    for size in shape:
        num_elements *= size
    num_bytes = num_elements * dtype.itemsize
    is_big = num_bytes >= _HUGE_PAGE_BYTES
    pages = mmap.mmap(-1, num_bytes + is_big * _HUGE_PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    mapped = torch.frombuffer(pages, dtype=torch.uint8)
    first = -mapped.data_ptr() % _HUGE_PAGE_BYTES if is_big else 0
    if is_big:
        _advise_huge_pages(pages)
    return mapped[first : first + num_bytes].view(dtype).view(shape)


def _advise_huge_pages(pages: mmap.mmap) -> None:
    try:
        pages.madvise(mmap.MADV_HUGEPAGE)
    except (AttributeError, OSError):  # the system has none
        return
