"""Which part of a tensor's rows or columns one of several workers has. Knows no tensor and no model.

A layer's outputs are divided in units that stay together (the dimensions of a head), and what the next layer takes of
them is divided alike, so that two layers need one sum between them (Shoeybi et al. 2019, "Megatron-LM", section 3).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Share:
    """[first, end) of `whole` rows or columns."""

    first: int
    end: int
    whole: int

    @property
    def size(self) -> int:
        return self.end - self.first

    @property
    def is_whole(self) -> bool:
        return self.size == self.whole


def even_share(whole: int, rank: int, num_workers: int, unit: int = 1) -> Share:
    """The part of worker `rank`: as many units of `unit` as each other worker has.

    With fewer units than workers each has one, and neighbours hold the same one: so key-value heads are shared.
    Raises ValueError where that does not come out even; who asks has checked it with `plan.tensors.cannot_share`.
    """
    num_units = whole // unit
    many, few = max(num_units, num_workers), min(num_units, num_workers)
    if whole % unit or not few or many % few:
        raise ValueError(f"{num_workers} workers cannot share {whole} in units of {unit} evenly")
    each = max(1, num_units // num_workers)
    first = rank * num_units // num_workers * unit
    return Share(first, first + each * unit, whole)


def rows_of_vocabulary(vocab_size: int, rank: int, num_workers: int) -> Share:
    """Of embedding and head: equal parts, but for the last ones, which have what is left."""
    each = -(-vocab_size // num_workers)
    return Share(min(rank * each, vocab_size), min((rank + 1) * each, vocab_size), vocab_size)
