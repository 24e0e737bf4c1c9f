"""Token ids to vectors at the bottom of a model, vectors to logits at its top; one matrix where they are tied.

Workers that share a model have some rows of the vocabulary each: a vector is the sum of what they find, logits are put
side by side, so that each worker has all of them and chooses the same tokens.
"""

from __future__ import annotations

import torch

from kvik.kernels.embedding import embedding
from kvik.kernels.linear import PackedWeight, linear
from kvik.layers.parameters import ParameterTable
from kvik.parallel.share import rows_of_vocabulary

_HEAD = "lm_head.weight"


class Embedding:
    """ids [T] int32 -> their rows of the matrix, times `scale` [T, H], in the dtype that is computed in."""

    __slots__ = ("_dtype", "_group", "_rows", "scale", "weight")

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
        self._group = table.group
        rows = self._rows = rows_of_vocabulary(vocab_size, self._group.rank, self._group.size)
        if packed:
            (self.weight,) = table.packed({f"{name}.weight": rows.size}, hidden_size, {f"{name}.weight": rows})
        else:
            self.weight = table.table(f"{name}.weight", rows.size, hidden_size, rows)
        self.scale = scale
        self._dtype = table.compute_dtype

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        if self._rows.is_whole:
            return embedding(ids, self.weight, self._dtype, self.scale)
        is_mine = (ids >= self._rows.first) & (ids < self._rows.end)
        found = embedding(torch.where(is_mine, ids - self._rows.first, 0), self.weight, self._dtype, self.scale)
        return self._group.sum(found.masked_fill_(~is_mine[:, None], 0.0))


def take_rows(x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """x [T, H], rows [R] int32 -> [R, H]. Raises IndexError for a row outside [0, T); on a GPU that is zeros."""
    return embedding(rows, x, x.dtype)


class LMHead:
    """hidden [R, H] -> logits [R, V] fp32."""

    __slots__ = ("_group", "_vocab_size", "weight")

    def __init__(
        self, table: ParameterTable, vocab_size: int, hidden_size: int, *, tied_to: Embedding | None = None
    ) -> None:
        """`tied_to`: a packed embedding whose matrix is the head's too; the checkpoint's own copy is left unread."""
        self._group, self._vocab_size = table.group, vocab_size
        if tied_to is None:
            rows = rows_of_vocabulary(vocab_size, self._group.rank, self._group.size)
            (self.weight,) = table.packed({_HEAD: rows.size}, hidden_size, {_HEAD: rows})
            return
        if not isinstance(tied_to.weight, PackedWeight):
            raise TypeError("a head can be tied to a packed embedding only")
        self.weight = tied_to.weight
        table.unused.add(_HEAD)

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        return self._group.join_columns(linear(hidden, self.weight, dtype=torch.float32), self._vocab_size)
