"""The forward pass on a GPU: captured graphs where there is one of the batch's size or above, else call by call.

Decode batches (a token per request) are one graph, FULL; mixed ones are a graph for each stretch between two
attentions, PIECEWISE, with attention called in between, since its work depends on the requests. Few graphs are
captured before the engine is ready; batches of other sizes are padded to the next one that there is. What they would
have liked is captured in idle moments, never in a step that somebody waits for.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Protocol

import torch

from kvik.layers.batch import Attend, ForwardBatch, LayerKV
from kvik.models import Model
from kvik.runner.device_batch import DeviceBatch, no_requests, with_rows_of_adapters
from kvik.runner.gpu import Capture, Gpu, Graph
from kvik.runner.graph_sizes import GraphSizes
from kvik.telemetry.log import get_logger

logger = get_logger(__name__)

Mode = Literal["FULL", "PIECEWISE"]


class GraphKey(NamedTuple):
    mode: Mode
    size: int
    """Tokens that a batch is padded to."""
    with_lora: bool = False


class _Captured(Protocol):
    def replay(self, batch: ForwardBatch) -> None:
        """Compute what `DeviceBatch` holds; `batch` is its part without padding."""


class GraphedForward:
    """`ForwardPass` of a model on a GPU."""

    def __init__(self, gpu: Gpu, model: Model, kv: list[LayerKV], batch: DeviceBatch, sizes: GraphSizes) -> None:
        self._gpu = gpu
        self._model = model
        self._batch = batch
        self._sizes = sizes
        self._nothing = no_requests(kv)
        self._rows_address = 0
        self._memory = gpu.graph_memory()
        self._captured: dict[GraphKey, _Captured] = {}
        self._wanted: dict[GraphKey, None] = {}
        shape = (sizes.largest, model.spec.hidden_size)
        self._hidden = torch.empty(shape, dtype=model.compute_dtype, device=gpu.place)
        """What each graph leaves: one tensor for all, since a result is good until the next step."""
        self._at_attention = _AtAttention.of(model, sizes.largest if sizes.piecewise else 0, gpu)

    # --- steps ---------------------------------------------------------------------------------------

    def forward(self, batch: ForwardBatch) -> torch.Tensor:
        key = self._key_of(batch)
        self._rows_address = batch.logits_rows.data_ptr()
        if key is None:
            return self.forward_uncaptured(batch)
        num_requests = key.size if key.mode == "FULL" else batch.seq_lens.shape[0]
        self._batch.upload(batch, key.size, num_requests)
        self._captured[key].replay(self._batch.unpadded(batch))
        return self._hidden

    def forward_uncaptured(self, batch: ForwardBatch) -> torch.Tensor:
        """`forward`, call by call."""
        self._rows_address = batch.logits_rows.data_ptr()
        num_tokens, num_requests = batch.token_ids.shape[0], batch.seq_lens.shape[0]
        return self._model.forward(self._batch.upload(batch, num_tokens, num_requests))

    def logits(self, hidden: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        if rows.data_ptr() == self._rows_address:  # they came with the batch
            return self._model.logits(hidden, self._batch.logits_rows(rows.shape[0]))
        return self._model.logits(hidden, rows.to(self._gpu.place, non_blocking=True))

    def _key_of(self, batch: ForwardBatch) -> GraphKey | None:
        """The graph that takes the batch with the least padding; None: there is none."""
        num_tokens = batch.token_ids.shape[0]
        mode: Mode = "FULL" if num_tokens == batch.seq_lens.shape[0] and self._sizes.full else "PIECEWISE"
        with_lora = batch.lora_slots is not None
        best = self._sizes.padded(mode, num_tokens)
        if best is None:
            return None
        wanted = GraphKey(mode, best, with_lora)
        if wanted in self._captured:
            return wanted
        self._wanted[wanted] = None
        fitting = [k for k in self._captured if k.mode == mode and k.with_lora == with_lora and k.size >= num_tokens]
        return min(fitting, key=lambda key: key.size, default=None)

    # --- capturing -----------------------------------------------------------------------------------

    @property
    def captured(self) -> list[GraphKey]:
        """In the order of their capture."""
        return list(self._captured)

    def capture_one_of(self, keys: Iterable[GraphKey]) -> bool:
        """Capture the first of those that is not there yet. Whether there are more."""
        missing = [key for key in keys if key not in self._captured]
        if missing:
            self.capture(missing[0])
        return len(missing) > 1

    def capture_wanted(self) -> bool:
        """Capture one of the graphs that steps would have liked. Whether there are more."""
        if self._wanted:
            key = next(iter(self._wanted))
            del self._wanted[key]
            started = time.perf_counter()
            self.capture(key)
            logger.info("Captured a %s graph of %d tokens in %.2f s", key.mode, key.size, time.perf_counter() - started)
        return bool(self._wanted)

    def capture_all(self, keys: Iterable[GraphKey]) -> None:
        for key in keys:
            self.capture(key)

    def capture(self, key: GraphKey) -> None:
        """No step may be under way: the batch's arrays are written to."""
        if key in self._captured:
            return
        nothing = with_rows_of_adapters(self._nothing) if key.with_lora else self._nothing
        batch = self._batch.upload(nothing, key.size, key.size if key.mode == "FULL" else 0)
        hidden = self._hidden[: key.size]
        self._model.forward(batch if key.mode == "FULL" else replace(batch, at_attention=self._skip_attention))
        with self._gpu.capturing(self._memory) as capture:
            if key.mode == "FULL":
                self._captured[key] = _Full.capture(capture, self._model, batch, hidden)
            else:
                tensors = self._at_attention.first(key.size)
                self._captured[key] = _Pieces.capture(capture, self._model, batch, hidden, tensors)

    def drop_all(self) -> None:
        """Give back all graphs, as after their memory was measured."""
        self._captured.clear()
        self._memory = self._gpu.graph_memory()

    def _skip_attention(self, attend: Attend, qkv: torch.Tensor) -> torch.Tensor:
        return self._at_attention.attended[: qkv.shape[0]]


@dataclass(frozen=True)
class _Full:
    graph: Graph

    @classmethod
    def capture(cls, capture: Capture, model: Model, batch: ForwardBatch, hidden: torch.Tensor) -> _Full:
        capture.begin()
        hidden.copy_(model.forward(batch))
        return cls(capture.end())

    def replay(self, batch: ForwardBatch) -> None:
        self.graph.replay()


class _AtAttention(NamedTuple):
    """What passes from a piece to the attention behind it and on to the next piece: the same for all layers and sizes,
    as each is done with it before the next one comes. A tensor per piece would be held as long as its graph."""

    qkv: torch.Tensor
    attended: torch.Tensor

    @classmethod
    def of(cls, model: Model, num_tokens: int, gpu: Gpu) -> _AtAttention:
        attention = model.attentions[0]
        qkv, attended = (
            torch.empty((num_tokens, width), dtype=model.compute_dtype, device=gpu.place)
            for width in (attention.qkv_width, attention.width)
        )
        return cls(qkv, attended)

    def first(self, num_tokens: int) -> _AtAttention:
        return _AtAttention(self.qkv[:num_tokens], self.attended[:num_tokens])


class _Piece(NamedTuple):
    """The work up to an attention."""

    graph: Graph
    attend: Attend


class _Pieces:
    def __init__(self, tensors: _AtAttention) -> None:
        self._tensors = tensors
        self._pieces: list[_Piece] = []
        self._last: Graph | None = None

    @classmethod
    def capture(
        cls, capture: Capture, model: Model, batch: ForwardBatch, hidden: torch.Tensor, tensors: _AtAttention
    ) -> _Pieces:
        pieces = cls(tensors)

        def at_attention(attend: Attend, qkv: torch.Tensor) -> torch.Tensor:
            tensors.qkv.copy_(qkv)
            pieces._pieces.append(_Piece(capture.end(), attend))
            capture.begin()
            return tensors.attended

        capture.begin()
        hidden.copy_(model.forward(replace(batch, at_attention=at_attention)))
        pieces._last = capture.end()
        return pieces

    def replay(self, batch: ForwardBatch) -> None:
        qkv, attended = self._tensors.first(batch.token_ids.shape[0])
        for piece in self._pieces:
            piece.graph.replay()
            attended.copy_(piece.attend(qkv, batch))
        assert self._last is not None
        self._last.replay()
