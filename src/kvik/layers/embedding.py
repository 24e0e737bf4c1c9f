"""Token ids to vectors at the bottom of a model, vectors to logits at its top; one matrix where they are tied."""

from __future__ import annotations

import torch

from kvik.kernels.embedding import embedding
from kvik.kernels.linear import PackedWeight, linear
from kvik.layers.parameters import ParameterTable

_HEAD = "lm_head.weight"


class Embedding:
    """ids [T] int32 -> their rows of the matrix, times `scale` [T, H], in the dtype that is computed in."""

    __slots__ = ("_dtype", "scale", "weight")

    def __init__(
        self,
        table: ParameterTable,
        name: str,
        vocab_size: int,
        hidden_size: int,
        *,
        packed: bool = False,
        scale: float = 1.0,
    ) -> None:
        """`packed`: laid out for a head to multiply with. `scale` is rounded to that dtype."""
        self.weight: torch.Tensor | PackedWeight
        if packed:
            (self.weight,) = table.packed({f"{name}.weight": vocab_size}, hidden_size)
        else:
            self.weight = table.table(f"{name}.weight", vocab_size, hidden_size)
        self.scale = scale
        self._dtype = table.compute_dtype

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        return embedding(ids, self.weight, self._dtype, self.scale)


def take_rows(x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """x [T, H], rows [R] int32 -> [R, H]. Raises IndexError for a row outside [0, T); on a GPU that is zeros."""
    return embedding(rows, x, x.dtype)


class LMHead:
    """hidden [R, H] -> logits [R, V] fp32."""

    __slots__ = ("weight",)

    def __init__(
        self, table: ParameterTable, vocab_size: int, hidden_size: int, *, tied_to: Embedding | None = None
    ) -> None:
        """`tied_to`: a packed embedding whose matrix is the head's too; the checkpoint's own copy is left unread."""
        if tied_to is None:
            (self.weight,) = table.packed({_HEAD: vocab_size}, hidden_size)
            return
        if not isinstance(tied_to.weight, PackedWeight):
            raise TypeError("a head can be tied to a packed embedding only")
        self.weight = tied_to.weight
        table.unused.add(_HEAD)

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        return linear(hidden, self.weight, dtype=torch.float32)
