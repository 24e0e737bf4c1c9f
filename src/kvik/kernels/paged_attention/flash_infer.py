"""Paged attention by FlashInfer's BatchPrefillWithPagedKVCacheWrapper, which takes prompts and decoding requests.

The library plans a batch on the host before its first layer. We see no batches here, but each layer is called once in
one: the layer that comes a second time begins another batch.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kvik.kernels.paged_attention.flash_attention import token_major

WORKSPACE_BYTES = 128 * 1024**2
"""What the library's documentation asks for."""


class _Kind(NamedTuple):
    """Layers of the same numbers share a plan."""

    num_heads: int
    num_kv_heads: int
    head_dim: int
    scale: float
    window: int


@dataclass
class _Plan:
    wrapper: Any
    caches_done: set[int] = field(default_factory=set)
    """Addresses of the caches of the layers that this batch has been through."""


class FlashInfer:
    """For one set of caches."""

    def __init__(self) -> None:
        self._library: Any = importlib.import_module("flashinfer")
        self._workspace: Tensor | None = None
        self._plans: dict[_Kind, _Plan] = {}

    def __call__(
        self,
        q: Tensor,
        k_cache: Tensor,
        v_cache: Tensor,
        block_tables: Tensor,
        query_start_loc: Tensor,
        seq_lens: Tensor,
        *,
        num_kv_heads: int,
        head_dim: int,
        scale: float,
        window: int = 0,
        max_query_len: int | None = None,
        k_scale: float = 1.0,
        v_scale: float = 1.0,
    ) -> Tensor:
        """See `kvik.kernels.paged_attention.paged_attention`; `max_query_len` is not needed here."""
        kind = _Kind(q.shape[1] // head_dim, num_kv_heads, head_dim, scale, window)
        plan = self._plans.get(kind) or self._new_plan(kind, q.device)
        layer = k_cache.data_ptr()
        if not plan.caches_done or layer in plan.caches_done:
            pages = _pages(block_tables, seq_lens, k_cache.shape[3])
            plan.wrapper.plan(
                query_start_loc, *pages, kind.num_heads, num_kv_heads, head_dim, k_cache.shape[3], causal=True,
                sm_scale=scale, window_left=window - 1 if window else -1, q_data_type=q.dtype,
                kv_data_type=k_cache.dtype,
            )  # fmt: skip
            plan.caches_done.clear()
        plan.caches_done.add(layer)
        scales = {} if k_scale == v_scale == 1.0 else {"k_scale": k_scale, "v_scale": v_scale}
        heads = q.view(q.shape[0], -1, head_dim)
        out: Tensor = plan.wrapper.run(heads, token_major(k_cache, v_cache), **scales)
        return out.reshape(q.shape)

    def _new_plan(self, kind: _Kind, device: torch.device) -> _Plan:
        if self._workspace is None:
            self._workspace = torch.zeros(WORKSPACE_BYTES, dtype=torch.uint8, device=device)
        wrapper = self._library.BatchPrefillWithPagedKVCacheWrapper(self._workspace, "NHD")
        self._plans[kind] = _Plan(wrapper)
        return self._plans[kind]


def _pages(block_tables: Tensor, seq_lens: Tensor, block_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Where each request's pages begin [B + 1], the pages, one request's behind another's, and tokens in the last."""
    num_pages = (seq_lens + block_size - 1) // block_size
    starts = torch.zeros(seq_lens.shape[0] + 1, dtype=torch.int32, device=seq_lens.device)
    starts[1:] = num_pages.cumsum(0)
    column = torch.arange(block_tables.shape[1], device=block_tables.device)
    in_last = seq_lens - (num_pages - 1).clamp(min=0) * block_size
    return starts, block_tables[column < num_pages[:, None]], in_last
