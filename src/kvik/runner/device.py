"""What the runner asks of the device that computes. One runner, two kinds of device: cpu_device.py, gpu_device.py."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import torch

from kvik.config import EngineConfig
from kvik.kernels.batch_rows import BatchArrays
from kvik.kernels.tape import Counts
from kvik.layers.batch import ForwardBatch, LayerKV
from kvik.messages import EngineFacts
from kvik.models import Model
from kvik.plan.formats import Kind
from kvik.plan.weights import StoredWeights
from kvik.sampling import Chooser
from kvik.step import MemoryPart
from kvik.weights.lane import Lane


class ForwardPass(Protocol):
    """What a step needs of a model."""

    def forward(self, batch: ForwardBatch) -> torch.Tensor:
        """Compute all T tokens of a batch that lies on the host, once `fill_in` has put in those still missing.

        Writes their keys and values. Returns hidden [T or more, H], good until the next call.
        """

    def logits(self, hidden: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """What `forward` returned last, rows [R] int32 on the host -> [R, V] fp32, good until the next call."""


class Device(Protocol):
    kind: Kind
    place: torch.device
    """Where weights, keys and values, and activations lie."""

    def say_what_computes(self) -> None:
        """In the log."""

    def compute_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """Of activations, for a model of `dtype`."""

    def float_format(self, config: EngineConfig) -> str:
        """How matrices of floats are kept."""

    def lane(self) -> Lane | None:
        """The way of the weights to another device than the host; None where the host writes them itself."""

    def check_room(self, config: EngineConfig, weights_bytes: int, stored: StoredWeights) -> None:
        """Whether a start can come to an end, before the weights are read. Raises `InsufficientMemoryError`."""

    def while_loading(self, config: EngineConfig, model: Model) -> AbstractContextManager[None]:
        """Around the reading of the model's weights: what can be done meanwhile with the memory that they will have."""

    def size_kv(self, config: EngineConfig, model: Model, adapters_bytes: int, stored: StoredWeights) -> EngineFacts:
        """Settle the number of blocks and the context length, with the weights in place, and log them.

        Raises `InsufficientMemoryError`, with the whole plan, when one request of `max_model_len` does not fit.
        """

    def allocate_kv(self, config: EngineConfig, num_blocks: int) -> list[LayerKV]:
        """Keys and values of `num_blocks` blocks, the null block among them."""

    def forward_pass(
        self, config: EngineConfig, model: Model, kv: list[LayerKV], arrays: BatchArrays, most: Counts
    ) -> ForwardPass:
        """The model on batches that lie in `arrays` and are `most` at most, made as fast as it can be here."""

    def chooser(self, config: EngineConfig) -> Chooser:
        """What chooses tokens of logits that lie here, without waiting for those of the steps before."""

    def give_back(self, part: MemoryPart, tensors: Sequence[torch.Tensor]) -> int:
        """Give back the memory of these tensors, bytes. Nothing may be under way, and what they held is lost."""

    def take_again(self, part: MemoryPart) -> None:
        """Memory for what was given back, of zeros. Raises `InsufficientMemoryError` where there is none; the tensors
        are without memory then."""

    def use_idle_time(self) -> bool:
        """Do a piece of what later steps will be glad of, in a moment without requests. Whether there is more."""

    def count_progress_at(self, address: int) -> None:
        """From now on, count up the u64 at `address` with each piece of work inside of a step."""
