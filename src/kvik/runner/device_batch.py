"""A step's batch on the GPU: arrays at fixed addresses, filled from the host by two copies that nobody waits for.

Batches are padded to the sizes of captured graphs: rows behind the tokens write nowhere (slot -1), requests behind the
requests have one of those rows each and no tokens (seq_len 0).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from kvik.kernels.tape import Counts
from kvik.layers.batch import ForwardBatch, LayerKV
from kvik.runner.gpu import Event, Gpu

_NUM_STAGINGS = 3
"""Steps whose numbers may be on their way at once; with more, the host waits for the first of them."""


@dataclass
class _Staging:
    """Pinned memory that a copy may still be reading from."""

    slab: torch.Tensor
    tables: torch.Tensor
    copied: Event | None = None


class DeviceBatch:
    """Written by `upload` alone; what it returns is good until the next call."""

    def __init__(self, gpu: Gpu, kv: list[LayerKV], most: Counts, max_logits_rows: int) -> None:
        """`most`: tokens, requests and blocks of one request. Each size has room for padding to it."""
        self._gpu = gpu
        self._kv = kv
        num_tokens, num_requests, max_blocks = most
        self._sizes = {
            "query_start_loc": num_requests + 1, "seq_lens": num_requests, "logits_rows": max_logits_rows,
            "token_ids": num_tokens, "positions": num_tokens, "slot_mapping": num_tokens, "lora_slots": num_tokens,
        }  # fmt: skip
        total = sum(self._sizes.values())
        self._slab = torch.zeros(total, dtype=torch.int32, device=gpu.place)
        self._tables = torch.zeros(num_requests, max_blocks, dtype=torch.int32, device=gpu.place)
        self._arrays = self._parts_of(self._slab)
        self._stagings = [
            _Staging(gpu.pinned(total), gpu.pinned(num_requests * max_blocks)) for _ in range(_NUM_STAGINGS)
        ]
        self._next = 0

    @property
    def token_ids(self) -> torch.Tensor:
        """Those of the last batch, and behind them what was there."""
        return self._arrays["token_ids"]

    def logits_rows(self, num_rows: int) -> torch.Tensor:
        """The first R rows whose logits the last batch wants."""
        return self._arrays["logits_rows"][:num_rows]

    def upload(self, host: ForwardBatch, num_tokens: int, num_requests: int) -> ForwardBatch:
        """The host's batch, padded to these sizes, on the device."""
        staging = self._free_staging()
        self._fill(staging, host, num_tokens, num_requests)
        self._slab.copy_(staging.slab, non_blocking=True)
        num_host_requests, width = host.block_tables.shape
        if num_host_requests and width:
            table = staging.tables[: host.block_tables.numel()].view(num_host_requests, width)
            table.copy_(host.block_tables)
            self._tables[:num_host_requests, :width].copy_(table, non_blocking=True)
        staging.copied = self._gpu.record_event()
        if host.fill_in is not None:
            host.fill_in(self.token_ids)
        max_query_len = _max_query_len(host)
        return self._front(num_tokens, num_requests, max_query_len, with_lora=host.lora_slots is not None)

    def unpadded(self, host: ForwardBatch) -> ForwardBatch:
        """What `upload` brought last, without the padding."""
        counts = host.token_ids.shape[0], host.seq_lens.shape[0]
        return self._front(*counts, _max_query_len(host), with_lora=host.lora_slots is not None)

    def _front(self, num_tokens: int, num_requests: int, max_query_len: int, *, with_lora: bool) -> ForwardBatch:
        arrays = self._arrays
        return ForwardBatch(
            token_ids=arrays["token_ids"][:num_tokens],
            positions=arrays["positions"][:num_tokens],
            slot_mapping=arrays["slot_mapping"][:num_tokens],
            query_start_loc=arrays["query_start_loc"][: num_requests + 1],
            seq_lens=arrays["seq_lens"][:num_requests],
            block_tables=self._tables[:num_requests],
            logits_rows=arrays["logits_rows"],
            kv=self._kv,
            lora_slots=arrays["lora_slots"][:num_tokens] if with_lora else None,
            max_query_len=max_query_len,
        )

    def _fill(self, staging: _Staging, host: ForwardBatch, num_tokens: int, num_requests: int) -> None:
        """The host's numbers, then the padding."""
        parts = self._parts_of(staging.slab)
        count, requests = host.token_ids.shape[0], host.seq_lens.shape[0]
        for name in ("token_ids", "positions", "slot_mapping", "seq_lens", "query_start_loc", "logits_rows"):
            values = getattr(host, name)
            parts[name][: values.shape[0]].copy_(values)
        if host.lora_slots is not None:
            parts["lora_slots"][:count].copy_(host.lora_slots)
            parts["lora_slots"][count:num_tokens].fill_(-1)
        parts["token_ids"][count:num_tokens].zero_()
        parts["positions"][count:num_tokens].zero_()
        parts["slot_mapping"][count:num_tokens].fill_(-1)
        parts["seq_lens"][requests:num_requests].zero_()
        if num_requests > requests:
            padded = torch.arange(count + 1, count + 1 + num_requests - requests, dtype=torch.int32)
            parts["query_start_loc"][requests + 1 : num_requests + 1].copy_(padded)

    def _parts_of(self, slab: torch.Tensor) -> dict[str, torch.Tensor]:
        return dict(zip(self._sizes, torch.split(slab, list(self._sizes.values())), strict=True))

    def _free_staging(self) -> _Staging:
        staging = self._stagings[self._next]
        self._next = (self._next + 1) % _NUM_STAGINGS
        if staging.copied is not None:
            staging.copied.synchronize()
        return staging


def no_requests(kv: list[LayerKV]) -> ForwardBatch:
    """A batch of nothing, on the host: padded, it computes and writes nothing that anybody reads."""
    nothing = torch.zeros(0, dtype=torch.int32)
    return ForwardBatch(
        nothing, nothing, nothing, torch.zeros(1, dtype=torch.int32), nothing, nothing.view(0, 0), nothing, kv
    )


def with_rows_of_adapters(batch: ForwardBatch) -> ForwardBatch:
    """The same, as one whose rows may have adapters."""
    return replace(batch, lora_slots=torch.full_like(batch.token_ids, -1))


def _max_query_len(host: ForwardBatch) -> int:
    num_tokens, num_requests = host.token_ids.shape[0], host.seq_lens.shape[0]
    if num_tokens <= num_requests or not num_requests:
        return 1
    return int(host.query_start_loc.diff().max())
