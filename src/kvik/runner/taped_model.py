"""A model whose forward pass and head are replayed from tapes: two native calls a step instead of hundreds.

Stands where the model itself would (`ForwardPass`), and gives the same bits. Knows no architecture: the tapes are
recorded from whatever the model calls, once, when its weights are in place.
"""

from __future__ import annotations

import gc
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, Protocol

import torch

from kvik.kernels import runtime
from kvik.kernels.arena import Arena
from kvik.kernels.tape import Counts, RecordingError, Tape
from kvik.layers.batch import ForwardBatch, LayerKV
from kvik.models import Model
from kvik.telemetry.log import get_logger

logger = get_logger(__name__)


class ForwardPass(Protocol):
    """What a step needs of a model."""

    def forward(self, batch: ForwardBatch) -> torch.Tensor:
        """Compute all T tokens, writing their keys and values -> hidden [T, H], good until the next call."""

    def logits(self, hidden: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """What `forward` returned last, rows [R] int32 -> [R, V] fp32, good until the next call."""


def tape_model(model: Model, kv: list[LayerKV], most: Counts, num_logits_rows: int, arena_bytes: int) -> ForwardPass:
    """The model by tape for steps up to `most`, or the model itself, with a warning, where it cannot be recorded.

    `num_logits_rows`: most rows that are asked for at once; `arena_bytes`: address space for activations.
    """
    if runtime.native is None:
        return model
    try:
        return TapedModel(model, kv, most, num_logits_rows, arena_bytes)
    except RecordingError as error:
        logger.warning("The forward pass cannot be recorded, so each step calls it anew, which is slower: %s", error)
        return model


class TapedModel:
    """Steps within the sizes that it was made for are replayed; the model computes larger ones itself."""

    def __init__(self, model: Model, kv: list[LayerKV], most: Counts, num_logits_rows: int, arena_bytes: int) -> None:
        """Raises `RecordingError`."""
        self._model = model
        self._step = _StepBuffers(most, num_logits_rows)
        self._arena = Arena(arena_bytes)
        known = [*self._step.tensors(), *tensors_within(model), *tensors_within(kv)]
        self._forward = Tape(lambda counts: model.forward(self._step.batch(counts, kv)), most, self._arena, known)
        hidden = self._forward.result
        self._head = Tape(
            lambda counts: model.logits(hidden, self._step.logits_rows[: counts.num_rows]),
            Counts(num_logits_rows), self._arena, known,
        )  # fmt: skip

    @property
    def activation_bytes(self) -> int:
        """The most memory that activations and logits take."""
        return self._arena.peak_bytes

    def forward(self, batch: ForwardBatch) -> torch.Tensor:
        num_requests, width = batch.block_tables.shape
        counts = Counts(batch.token_ids.shape[0], num_requests, width)
        if not self._forward.fits(counts):
            return self._model.forward(batch)
        self._step.fill(batch)
        self._forward.replay(counts)
        return self._forward.result[: counts.num_rows]

    def logits(self, hidden: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        counts = Counts(rows.shape[0])
        if hidden.data_ptr() != self._forward.result.data_ptr() or not self._head.fits(counts):
            return self._model.logits(hidden, rows)
        self._step.logits_rows[: counts.num_rows] = rows
        self._head.replay(counts)
        return self._head.result[: counts.num_rows]


class _StepBuffers:
    """The arrays of a `ForwardBatch` at places that never move."""

    def __init__(self, most: Counts, num_logits_rows: int) -> None:
        def int32(size: int) -> torch.Tensor:
            return torch.zeros(size, dtype=torch.int32)

        self.token_ids = int32(most.num_rows)
        self.positions = int32(most.num_rows)
        self.slot_mapping = int32(most.num_rows)
        self.query_start_loc = int32(most.num_requests + 1)
        self.seq_lens = int32(most.num_requests)
        self.block_tables = int32(most.num_requests * most.block_table_width)  # a step's rows, as wide as it needs
        self.logits_rows = int32(num_logits_rows)

    def tensors(self) -> list[torch.Tensor]:
        return list(vars(self).values())

    def batch(self, counts: Counts, kv: list[LayerKV]) -> ForwardBatch:
        """A batch of these counts whose arrays are these buffers."""
        tokens, requests, width = counts
        return ForwardBatch(
            token_ids=self.token_ids[:tokens],
            positions=self.positions[:tokens],
            slot_mapping=self.slot_mapping[:tokens],
            query_start_loc=self.query_start_loc[: requests + 1],
            seq_lens=self.seq_lens[:requests],
            block_tables=self.block_tables[: requests * width].view(requests, width),
            logits_rows=self.logits_rows[:0],
            kv=kv,
        )

    def fill(self, batch: ForwardBatch) -> None:
        """Copy a step's arrays here; its logits rows come with the head."""
        num_tokens, num_requests = batch.token_ids.shape[0], batch.seq_lens.shape[0]
        self.token_ids[:num_tokens] = batch.token_ids
        self.positions[:num_tokens] = batch.positions
        self.slot_mapping[:num_tokens] = batch.slot_mapping
        self.query_start_loc[: num_requests + 1] = batch.query_start_loc
        self.seq_lens[:num_requests] = batch.seq_lens
        self.block_tables[: batch.block_tables.numel()] = batch.block_tables.view(-1)


def tensors_within(owner: object) -> list[torch.Tensor]:
    """All tensors that live as long as `owner` does because it refers to them, directly or not."""
    found: list[torch.Tensor] = []
    seen: set[int] = set()
    ahead: list[Any] = [owner]
    while ahead:
        thing = ahead.pop()
        if id(thing) in seen or isinstance(thing, _CODE):
            continue
        seen.add(id(thing))
        if isinstance(thing, torch.Tensor):
            found.append(thing)
        else:
            ahead += gc.get_referents(thing)
    return found


_CODE = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType)
"""Whatever refers to the program instead of to data."""
