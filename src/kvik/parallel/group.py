"""What the workers of one model do together. Knows tensors, no layer and no request.

Each worker calls the same methods in the same order, or all wait for each other for ever: nothing that one worker
alone knows may decide whether a method is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch


class Group(Protocol):
    rank: int
    """Of this worker, from 0 on."""
    size: int
    """Workers."""

    def sum(self, x: torch.Tensor) -> torch.Tensor:
        """x of any shape, in place: the sum of all workers' x, added in the order of the ranks. Returns x."""

    def join_columns(self, x: torch.Tensor, num_columns: int) -> torch.Tensor:
        """All workers' columns x [R, n], n the same but for the last ones -> side by side [R, num_columns]."""

    def least(self, numbers: Sequence[int]) -> list[int]:
        """Of each number, the smallest that a worker has."""

    def any(self, flag: bool) -> bool:
        """Whether it is true for one of them."""

    def rehearsal(self) -> AbstractContextManager[None]:
        """Inside, nobody is asked: shapes are right and values are not. For passes that no other worker makes."""


def sum_in_trace(x: torch.Tensor, size: int) -> torch.Tensor:
    """What a group of `size` workers has in place of `sum` while torch.compile traces a pass: an op that it does not
    look into (compilation/ops.py)."""
    torch.ops.kvik.sum_of_workers(x, size)
    return x


class Alone:
    """A model that one worker has whole: nothing to do, at no cost."""

    rank: int = 0
    size: int = 1

    def sum(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def join_columns(self, x: torch.Tensor, num_columns: int) -> torch.Tensor:
        return x

    def least(self, numbers: Sequence[int]) -> list[int]:
        return list(numbers)

    def any(self, flag: bool) -> bool:
        return flag

    def rehearsal(self) -> AbstractContextManager[None]:
        return nullcontext()


class Absent(Alone):
    """A worker's place among others that are not there: for a pass that is traced and never computed."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank = rank
        self.size = size

    def sum(self, x: torch.Tensor) -> torch.Tensor:
        return sum_in_trace(x, self.size)


ALONE = Alone()
