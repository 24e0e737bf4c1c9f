"""What all decoders have in common: embedding, layers, final norm, head, and how they are filled.

An architecture is a file beside this one: its decoder layer, and a subclass of `Model` that puts the layers together.
Knows nothing of requests, schedules or sampling: a batch comes in, logits go out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from kvik.layers.attention import Attention
from kvik.layers.batch import ForwardBatch
from kvik.layers.embedding import Embedding, LMHead, take_rows
from kvik.layers.load import Checkpoint, OnBytes, OnShard, load_parameters
from kvik.layers.lora import LoraTarget
from kvik.layers.norm import RMSNorm
from kvik.layers.parameters import ParameterTable
from kvik.modelfile.spec import ModelSpec
from kvik.weights.lane import Lane


class DecoderLayer(Protocol):
    """One layer. The residual sum is kept apart, so that each norm can add to it in the same pass over memory."""

    attention: Attention

    def forward(self, delta: torch.Tensor | None, residual: torch.Tensor, batch: ForwardBatch) -> torch.Tensor:
        """Add `delta`, what the layer before computed (None for the first), to `residual` in place, and return
        what this layer adds to it. All [T, H]."""


class Model:
    """A decoder whose weights are still to come: `load` or `load_dummy`, once, then `forward` and `logits`."""

    def __init__(
        self,
        spec: ModelSpec,
        table: ParameterTable,
        layers: Sequence[DecoderLayer],
        norm: RMSNorm,
        *,
        embedding_scale: float = 1.0,
    ) -> None:
        self.spec = spec
        self.group = table.group
        self.dtype = table.dtype
        self.compute_dtype = table.compute_dtype
        self._table = table
        self.layers = layers
        self.norm = norm
        tied = spec.tie_word_embeddings
        shape = (spec.vocab_size, spec.hidden_size)
        self.embedding = Embedding(table, "model.embed_tokens", *shape, packed=tied, scale=embedding_scale)
        self.head = LMHead(table, *shape, tied_to=self.embedding if tied else None)

    @property
    def weights_bytes(self) -> int:
        """Bytes that the weights take in memory, a tied embedding counted once."""
        return self._table.num_bytes

    @property
    def weights_bytes_by_format(self) -> dict[str, int]:
        """The same by format, such as {"q4_k": ..., "f32": ...}."""
        return dict(self._table.num_bytes_by_format)

    @property
    def formats(self) -> dict[str, str]:
        """How each tensor of the checkpoint is kept, by its name."""
        return {name: parameter.format for name, parameter in self._table.by_name.items()}

    @property
    def attentions(self) -> list[Attention]:
        """In the order in which a pass meets them."""
        return [layer.attention for layer in self.layers]

    @property
    def lora_targets(self) -> list[LoraTarget]:
        """The linear layers that adapters may change."""
        return self._table.lora_targets

    def reserve_adapters(self, num_slots: int, max_rank: int, dtype: torch.dtype) -> int:
        """Make room for adapters beside all linear layers; returns its bytes, which become memory when written."""
        for target in self.lora_targets:
            target.reserve(num_slots, max_rank, dtype)
        return sum(target.num_bytes for target in self.lora_targets)

    def load(
        self,
        checkpoint: Checkpoint,
        on_shard: OnShard | None = None,
        on_bytes: OnBytes | None = None,
        lane: Lane | None = None,
    ) -> None:
        """Fill the weights, by `lane` where they are on another device; `on_shard(name, num_done, num_shards)` is
        called after each shard, `on_bytes(num_bytes)` after each tensor.

        Raises `ModelFileError` where checkpoint and configuration disagree.
        """
        load_parameters(self._table, checkpoint, on_shard, on_bytes, lane)

    @property
    def memory(self) -> list[torch.Tensor]:
        """The weights. After their memory was given back the next `load` or `load_dummy` writes all of them."""
        return self._table.memory

    def load_dummy(self, seed: int = 0) -> None:
        """Fill the weights with random numbers, the same ones for the same seed."""
        self._table.fill_random(seed)

    def forward(self, batch: ForwardBatch) -> torch.Tensor:
        """Compute all T tokens, writing their keys and values to the batch's cache -> normed hidden [T, H]."""
        residual = self.embedding(batch.token_ids)
        delta = None
        for layer in self.layers:
            delta = layer.forward(delta, residual, batch)
        return self.norm(residual) if delta is None else self.norm.add(delta, residual)

    def logits(self, hidden: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """hidden [T, H], rows [R] int32 -> [R, V] fp32."""
        return self.head(take_rows(hidden, rows))
