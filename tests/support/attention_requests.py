"""Requests over a KV cache laid out as a GPU's, whose unused slots hold NaN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from kvik.kernels.paged_attention import allocate_kv_cache


def attention_requests(
    shapes: Sequence[tuple[int, int]], *, hq: int = 4, hkv: int = 2, head_dim: int = 16, block: int = 16,
    dtype: torch.dtype = torch.float32, cache: torch.dtype | None = None, seed: int = 0,
    place: torch.device | str = "cpu",
) -> dict[str, Any]:  # fmt: skip
    """Arguments of `paged_attention` for requests of (queries, tokens in all), in blocks in any order."""
    rng = torch.Generator().manual_seed(seed)
    widths = [-(-length // block) for _, length in shapes]
    num_blocks = sum(widths) + 1
    k, v = allocate_kv_cache(num_blocks, hkv, head_dim, block, cache or dtype, device=torch.device(place))
    width = max([*widths, 1])
    tables = torch.zeros(len(shapes), width + 3, dtype=torch.int32)
    free = (torch.randperm(num_blocks - 1, generator=rng) + 1).int().split(widths)
    for cached in (k, v):
        cached.copy_(torch.full(cached.shape, torch.nan))
    for b, (_, length) in enumerate(shapes):
        tables[b, : widths[b]] = free[b]
        at = torch.arange(length)
        pages, offsets = free[b].long()[at // block].to(place), (at % block).to(place)
        k[pages, :, :, offsets] = torch.randn(length, hkv, head_dim, generator=rng).to(k.dtype).to(place)
        v[pages, :, offsets] = torch.randn(length, hkv, head_dim, generator=rng).to(v.dtype).to(place)
    starts = torch.tensor([0, *[n for n, _ in shapes]]).cumsum(0).int()
    q = torch.randn(int(starts[-1]), hq * head_dim, generator=rng).to(dtype)
    return {
        "q": q.to(place), "k_cache": k, "v_cache": v, "block_tables": tables.to(place)[:, :width],
        "query_start_loc": starts.to(place), "seq_lens": torch.tensor([n for _, n in shapes]).int().to(place),
        "num_kv_heads": hkv, "head_dim": head_dim, "scale": head_dim**-0.5,
    }  # fmt: skip
