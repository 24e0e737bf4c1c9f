"""What one request asks of its logits, as arrays for the device. Made when its row first comes, kept while it stays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kvik.sampling.processors import AllowedTokens, BadWords, LogitBias, MinTokens, Penalties
from kvik.sampling.state import SamplingState
from kvik.sampling.token_mask import TokenMask


class Edits(NamedTuple):
    """Numbers to add to single logits; -inf rules a token out. Each token at most once."""

    token_ids: npt.NDArray[np.int32]
    values: npt.NDArray[np.float32]


class Wishes:
    """Of one request, by its processors."""

    allowed: TokenMask | None = None
    penalties: Penalties | None = None

    def __init__(self, state: SamplingState, vocab_size: int) -> None:
        self._bias: dict[int, float] = {}
        self._bad_words: BadWords | None = None
        self._min_tokens: MinTokens | None = None
        for processor in state.processors:
            match processor:
                case AllowedTokens():
                    self.allowed = _packed(processor.token_ids, vocab_size)
                case BadWords():
                    self._bad_words = processor
                case MinTokens():
                    self._min_tokens = processor
                case LogitBias():
                    self._bias = processor.bias
                case Penalties():
                    self.penalties = processor
        self.has_edits = bool(self._bias or self._bad_words or self._min_tokens)
        self._ruled_out: tuple[int, ...] | None = None
        self._edits = Edits(np.empty(0, np.int32), np.empty(0, np.float32))

    def edits(self, token_ids: Sequence[int], num_awaited_tokens: int) -> Edits:
        """Of the token after those; the same object as before where nothing has changed.

        `token_ids` are all that is known: a request with bad words of several tokens must await none.
        """
        ruled_out: tuple[int, ...] = ()
        if self._bad_words is not None:
            ruled_out += (*self._bad_words.always, *self._bad_words.ends_after(token_ids))
        if self._min_tokens is not None and len(token_ids) + num_awaited_tokens < self._min_tokens.masked_below:
            ruled_out += self._min_tokens.ending
        if ruled_out != self._ruled_out:
            values = self._bias | dict.fromkeys(ruled_out, -np.inf)
            self._edits = Edits(np.array(list(values), np.int32), np.array(list(values.values()), np.float32))
            self._ruled_out = ruled_out
        return self._edits


def _packed(token_ids: Sequence[int], vocab_size: int) -> TokenMask:
    is_allowed = np.zeros(-(-vocab_size // 32) * 32, np.bool_)
    is_allowed[list(token_ids)] = True
    return np.packbits(is_allowed, bitorder="little").view(np.uint32)
