"""Tokens of a step that are chosen before the host knows those of the steps before.

What a runner asks of this is `Chooser`. `PlainChooser` does it where logits lie on the host, for steps of which nobody
wants more than a token; `on_device` does all that can be asked, where they lie on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from kvik.sampling.sampled_token import FAILED, SampledToken
from kvik.sampling.sampler import choose
from kvik.sampling.state import SamplingState
from kvik.sampling.token_mask import TokenMask


class RunningRow(Protocol):
    """A request as the runner knows it."""

    index: int
    """Its row in the tables of all running requests."""
    sampling: SamplingState
    num_awaited_tokens: int
    """Tokens behind those of `sampling` that were chosen and are not known on the host."""


class OnItsWay(Protocol):
    """A tensor that was computed, or will be."""

    def numpy(self) -> npt.NDArray[np.int64]:
        """Wait for it, and for nothing that was begun after it."""


class Chosen:
    """One token per row."""

    def __init__(
        self, token_ids: Tensor, told: OnItsWay, read: Callable[[npt.NDArray[np.int64]], list[SampledToken]]
    ) -> None:
        """`read` makes samples of what is told on the host."""
        self.token_ids = token_ids
        """[R] int64 where the logits are; -1 in a row without a sound distribution."""
        self._told = told
        self._read = read

    def samples(self) -> list[SampledToken]:
        """[R]. Waits for them."""
        return self._read(self._told.numpy())


class Chooser(Protocol):
    def choose(self, logits: Tensor, rows: Sequence[RunningRow], grammars: Sequence[TokenMask | None]) -> Chosen | None:
        """Begin to choose a token for each row of logits [R, V] fp32, which may be changed in place.

        grammars [R]: the tokens that a row's grammar allows; None where it has none. Nothing is waited for; None where
        it cannot be done without.
        """

    def forget_rows(self) -> None:
        """Rows got tokens on another way since the last call: what was counted on from step to step is not so."""


class PlainChooser:
    """On the host."""

    def choose(self, logits: Tensor, rows: Sequence[RunningRow], grammars: Sequence[TokenMask | None]) -> Chosen | None:
        states = [row.sampling for row in rows]
        if any(mask is not None for mask in grammars) or not all(state.is_plain for state in states):
            return None
        token_ids = choose(logits, [row.sampling.ahead(row.num_awaited_tokens) for row in rows])
        return Chosen(token_ids, token_ids, _plain_samples)

    def forget_rows(self) -> None:
        pass


def _plain_samples(token_ids: npt.NDArray[np.int64]) -> list[SampledToken]:
    return [SampledToken(token_id, None, None) if token_id >= 0 else FAILED for token_id in token_ids.tolist()]
