"""A model whose forward pass and head are replayed from tapes: two native calls a step instead of hundreds.

Stands where the model itself would (`ForwardPass`), and gives the same bits. Knows no architecture: the tapes are
recorded from whatever the model calls, once, when its weights are in place.
"""

from __future__ import annotations

import gc
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import torch

from kvik.kernels import runtime
from kvik.kernels.arena import Arena
from kvik.kernels.batch_rows import BatchArrays
from kvik.kernels.tape import Counts, RecordingError, Tape
from kvik.layers.batch import ForwardBatch, LayerKV
from kvik.models import Model
from kvik.runner.batch_builder import front_of
from kvik.runner.device import ForwardPass
from kvik.telemetry.log import get_logger

logger = get_logger(__name__)


def tape_model(
    model: Model, kv: list[LayerKV], arrays: BatchArrays, most: Counts, arena_bytes: int, *, with_lora: bool = False
) -> ForwardPass:
    """The model by tape, or the model itself, with a warning, where it cannot be recorded.

    Batches lie in `arrays` and are `most` at most; `arena_bytes`: address space for activations. `with_lora`: batches
    may have adapters, for which there is room in the model.
    """
    if runtime.native is None:
        return model
    try:
        return TapedModel(model, kv, arrays, most, arena_bytes, with_lora=with_lora)
    except RecordingError as error:
        logger.warning("The forward pass cannot be recorded, so each step calls it anew, which is slower: %s", error)
        return model


class _Pass:
    """Two tapes: the forward pass, and the head over what it gave."""

    def __init__(
        self,
        model: Model,
        kv: list[LayerKV],
        arrays: BatchArrays,
        most: Counts,
        arena: Arena,
        known: list[torch.Tensor],
        with_lora: bool,
    ) -> None:
        """Raises `RecordingError`."""
        self.forward = Tape(
            lambda counts: model.forward(front_of(arrays, *counts, 0, kv, with_lora=with_lora)), most, arena, known
        )  # fmt: skip
        self.hidden = self.forward.result
        self._head = Tape(
            lambda counts: model.logits(self.hidden, arrays.logits_rows[: counts.num_rows]),
            Counts(arrays.logits_rows.shape[0]), arena, known,
        )  # fmt: skip
        self._logits = self._head.result

    def logits(self, num_rows: int) -> torch.Tensor:
        """[R, V] of the first R rows that are wanted of the last replay of `forward`."""
        self._head.replay(Counts(num_rows))
        if self._logits.shape[0] != num_rows:
            self._logits = self._head.result[:num_rows]
        return self._logits


class TapedModel:
    """Batches that lie in `arrays` are replayed; others, and those of the prompts' own scores, the model computes.

    Steps without adapters have a tape of their own, so that adapters which nobody uses cost nothing.
    """

    def __init__(
        self,
        model: Model,
        kv: list[LayerKV],
        arrays: BatchArrays,
        most: Counts,
        arena_bytes: int,
        *,
        with_lora: bool = False,
    ) -> None:
        """Raises `RecordingError`."""
        self._model = model
        self._arrays = arrays
        self._arena = Arena(arena_bytes)
        known = [*arrays.tensors(), arrays.lora_slots, *tensors_within(model), *tensors_within(kv)]
        self._plain = _Pass(model, kv, arrays, most, self._arena, known, False)
        self._adapted = _Pass(model, kv, arrays, most, self._arena, known, True) if with_lora else None

    @property
    def activation_bytes(self) -> int:
        """The most memory that activations and logits take."""
        return self._arena.peak_bytes

    def forward(self, batch: ForwardBatch) -> torch.Tensor:
        num_requests, width = batch.block_tables.shape
        counts = Counts(batch.token_ids.shape[0], num_requests, width)
        chosen = self._plain if batch.lora_slots is None else self._adapted
        lies_elsewhere = batch.token_ids.data_ptr() != self._arrays.addresses[0]
        if chosen is None or lies_elsewhere or not chosen.forward.fits(counts):
            return self._model.forward(batch)
        chosen.forward.replay(counts)
        return chosen.hidden  # all its rows: those beyond the batch's hold what they held

    def logits(self, hidden: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        chosen = self._plain if self._adapted is None or hidden is self._plain.hidden else self._adapted
        if hidden is not chosen.hidden or rows.data_ptr() != self._arrays.addresses[-1]:
            return self._model.logits(hidden, rows)
        return chosen.logits(rows.shape[0])


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
