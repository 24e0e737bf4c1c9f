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
from kvik.kernels.batch_rows import BatchArrays
from kvik.kernels.tape import Counts, RecordingError, Tape
from kvik.layers.batch import ForwardBatch, LayerKV
from kvik.models import Model
from kvik.runner.batch_builder import front_of
from kvik.telemetry.log import get_logger

logger = get_logger(__name__)


class ForwardPass(Protocol):
    """What a step needs of a model."""

    def forward(self, batch: ForwardBatch) -> torch.Tensor:
        """Compute all T tokens, writing their keys and values -> hidden [T or more, H], good until the next call."""

    def logits(self, hidden: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """What `forward` returned last, rows [R] int32 -> [R, V] fp32, good until the next call."""


def tape_model(model: Model, kv: list[LayerKV], arrays: BatchArrays, most: Counts, arena_bytes: int) -> ForwardPass:
    """The model by tape, or the model itself, with a warning, where it cannot be recorded.

    Batches lie in `arrays` and are `most` at most; `arena_bytes`: address space for activations.
    """
    if runtime.native is None:
        return model
    try:
        return TapedModel(model, kv, arrays, most, arena_bytes)
    except RecordingError as error:
        logger.warning("The forward pass cannot be recorded, so each step calls it anew, which is slower: %s", error)
        return model


class TapedModel:
    """Batches that lie in `arrays` are replayed; others, and those of the prompts' own scores, the model computes."""

    def __init__(self, model: Model, kv: list[LayerKV], arrays: BatchArrays, most: Counts, arena_bytes: int) -> None:
        """Raises `RecordingError`."""
        self._model = model
        self._arrays = arrays
        self._arena = Arena(arena_bytes)
        known = [*arrays.tensors(), *tensors_within(model), *tensors_within(kv)]
        self._forward = Tape(
            lambda counts: model.forward(front_of(arrays, *counts, 0, kv)), most, self._arena, known
        )  # fmt: skip
        self._hidden = self._forward.result
        self._head = Tape(
            lambda counts: model.logits(self._hidden, arrays.logits_rows[: counts.num_rows]),
            Counts(arrays.logits_rows.shape[0]), self._arena, known,
        )  # fmt: skip
        self._logits = self._head.result

    @property
    def activation_bytes(self) -> int:
        """The most memory that activations and logits take."""
        return self._arena.peak_bytes

    def forward(self, batch: ForwardBatch) -> torch.Tensor:
        num_requests, width = batch.block_tables.shape
        counts = Counts(batch.token_ids.shape[0], num_requests, width)
        if batch.token_ids.data_ptr() != self._arrays.addresses[0] or not self._forward.fits(counts):
            return self._model.forward(batch)
        self._forward.replay(counts)
        return self._hidden  # all its rows: those beyond the batch's hold what they held

    def logits(self, hidden: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        if hidden is not self._hidden or rows.data_ptr() != self._arrays.addresses[-1]:
            return self._model.logits(hidden, rows)
        num_rows = rows.shape[0]
        self._head.replay(Counts(num_rows))
        if self._logits.shape[0] != num_rows:
            self._logits = self._head.result[:num_rows]
        return self._logits


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
