"""What one forward pass computes. Goes down every `forward()` as an argument."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from kvik.kernels.paged_attention import paged_attention
from kvik.kernels.paged_attention.backends import PagedAttention


@dataclass(slots=True)
class LayerKV:
    """One layer's keys and values in the layout of `kernels/paged_attention`."""

    k: torch.Tensor
    v: torch.Tensor
    attention: PagedAttention = paged_attention
    """What reads them."""


@dataclass(slots=True)
class ForwardBatch:
    """T tokens of B requests. Request b owns the rows [query_start_loc[b], query_start_loc[b + 1])."""

    token_ids: torch.Tensor  # [T] int32
    positions: torch.Tensor  # [T] int32, absolute position in the request
    slot_mapping: torch.Tensor  # [T] int32, block id x block size + offset: where the token's K and V go
    query_start_loc: torch.Tensor  # [B + 1] int32
    seq_lens: torch.Tensor  # [B] int32, tokens of the request once this pass is done
    block_tables: torch.Tensor  # [B, max blocks] int32; columns beyond a request's blocks are not read
    logits_rows: torch.Tensor  # [R] int32, the rows whose logits are wanted
    kv: list[LayerKV]  # one per layer
    lora_slots: torch.Tensor | None = None  # [T] int32, the slot of the row's adapter, -1: none; None: none at all
    max_query_len: int | None = None  # most tokens of a request in this pass; None: not said
    fill_in: Callable[[torch.Tensor], None] | None = None  # writes into token_ids those that the host does not know yet
    at_attention: AtAttention | None = None  # called in place of each attention; None: it is simply computed


Attend = Callable[[torch.Tensor, ForwardBatch], torch.Tensor]
"""One layer's attention: qkv [T, (Hq + 2 Hkv) D] and a batch -> [T, Hq D]."""
AtAttention = Callable[[Attend, torch.Tensor], torch.Tensor]
"""Given a layer's attention and its qkv, what the layer goes on with: where a pass is cut into pieces."""
