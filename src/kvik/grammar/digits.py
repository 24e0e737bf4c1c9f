"""Tokens that begin with a digit, ruled out where a number of JSON has enough: an answer is to end by itself.

llguidance bounds digits only by `multipleOf`, which rules out exponents, or by limits on values. So they are counted
along the answer (`numbers.py`), and where a number has as many as it may, the next token is none that begins with a
digit, if anything else may follow. That never contradicts a schema: what needs more digits, such as a `const`, has
nothing else that may follow there. Knows no request.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher, LLTokenizer

_DIGITS_FIRST = "start: /[0-9](?s:.*)/\n"


@dataclass(frozen=True, slots=True)
class Digits:
    """What bounding numbers needs of a vocabulary. `of` takes the time of a mask."""

    vocabulary: LLTokenizer
    tokens: npt.NDArray[np.uint32]
    """Packed bits of the tokens that begin with a digit, [ceil((vocabulary + 1) / 32)]."""

    @classmethod
    def of(cls, vocabulary: LLTokenizer) -> Digits:
        tokens = np.zeros((vocabulary.vocab_size + 31) // 32, np.uint32)
        LLMatcher(vocabulary, _DIGITS_FIRST, log_level=0).unsafe_compute_mask_ptr(tokens.ctypes.data, tokens.nbytes)
        return cls(vocabulary, tokens)

    def spelled(self, token_id: int) -> bytes:
        return self.vocabulary.decode_bytes([token_id])

    def without(self, mask: npt.NDArray[np.uint32]) -> None:
        """Rule digits out of a mask, in place, unless only digits may follow."""
        others = mask & ~self.tokens
        if others.any():
            mask[:] = others
