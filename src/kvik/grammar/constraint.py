"""One request's grammar while its answer grows: which tokens may come next, and whether the answer is complete.

Knows no queue and no tensor. Masks are packed bits: bit i % 32 of word i // 32 is set where token i may come.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kvik.grammar.numbers import NumberState

if TYPE_CHECKING:
    from llguidance import LLMatcher

    from kvik.grammar.digits import Digits

Masks = npt.NDArray[np.uint32]

_FREE = np.uint32(2**32 - 1)
_TAIL_TOKENS = 8
"""A marker so near to the prompt's end means that the constraint begins with the answer."""


class Constraint:
    """`masks` before a step's tokens are chosen, `advance` with each one that was. Both are in the order of the answer.

    `ending_ids` are the tokens that may end the answer, allowed exactly where the grammar accepts. With `digits`, what
    the grammar describes is JSON, whose numbers are not to go on for ever.
    """

    def __init__(
        self,
        matcher: LLMatcher,
        vocab_size: int,
        ending_ids: Iterable[int],
        starts_after: Sequence[int] = (),
        prompt_token_ids: Sequence[int] = (),
        digits: Digits | None = None,
    ) -> None:
        self._matcher = matcher
        self._vocab_size = vocab_size
        ending = np.array(sorted({i for i in ending_ids if 0 <= i < vocab_size}), np.uint32)
        self._ending_words, self._ending_bits = ending // 32, np.uint32(1) << ending % 32
        self._marker = list(starts_after)
        self._tail = list(prompt_token_ids[-len(self._marker) :]) if self._marker else []
        self._is_on = not self._marker or _contains(prompt_token_ids[-_TAIL_TOKENS:], self._marker)
        self._digits = digits
        self._number = NumberState()
        self.error: str | None = None
        """Why the grammar cannot be followed any further."""

    @property
    def is_complete(self) -> bool:
        """The answer satisfies the grammar, and nothing can follow."""
        return self._is_on and self._matcher.is_stopped() and not self._matcher.is_error()

    def count_valid(self, token_ids: Sequence[int]) -> int:
        """How many of these guesses for the next tokens the grammar allows."""
        return self._matcher.validate_tokens(list(token_ids)) if self._is_on and token_ids else len(token_ids)

    def masks(self, draft_token_ids: Sequence[int] = ()) -> Masks | None:
        """Masks [1 + drafts, ceil(vocabulary / 32)] of the next token and of those after each guess.

        None: anything may come. Positions behind a guess that is not allowed are all zero.
        """
        if not self._is_on and not draft_token_ids:
            return None
        masks = np.zeros((1 + len(draft_token_ids), self._vocab_size // 32 + 1), np.uint32)
        tail, was_on, number, num_consumed = self._tail, self._is_on, self._number, 0
        for place in range(len(masks)):
            self._fill(masks[place])
            if place == len(draft_token_ids) or self.is_complete:
                break
            token_id = draft_token_ids[place]
            if self._is_on:
                if self._matcher.try_consume_tokens([token_id]) != 1:
                    break
                num_consumed += 1
                self._count_digits(token_id)
            self._watch(token_id)
        if num_consumed:
            self._matcher.rollback(num_consumed)
        self._tail, self._is_on, self._number = tail, was_on, number
        self._check()
        return masks

    def advance(self, token_id: int) -> bool:
        """`token_id` is part of the answer now. False, with `error` set, if the grammar does not have it there."""
        if self._is_on:
            self._matcher.consume_token(token_id)
            self._check()
            self._count_digits(token_id)
        else:
            self._watch(token_id)
        return self.error is None

    def _fill(self, mask: npt.NDArray[np.uint32]) -> None:
        if not self._is_on:
            mask[:] = _FREE
            return
        self._matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
        accepts = int(mask[self._vocab_size // 32]) >> self._vocab_size % 32 & 1
        if accepts:
            np.bitwise_or.at(mask, self._ending_words, self._ending_bits)
        if self._digits is not None and self._number.is_full:
            self._digits.without(mask)

    def _count_digits(self, token_id: int) -> None:
        if self._digits is not None and token_id < self._vocab_size:
            self._number = self._number.after(self._digits.spelled(token_id))

    def _watch(self, token_id: int) -> None:
        """Before the constraint begins: has the marker come?"""
        if not self._is_on:
            self._tail = [*self._tail, token_id][-len(self._marker) :]
            self._is_on = self._tail == self._marker

    def _check(self) -> None:
        if self.error is None and self._matcher.is_error():
            self.error = f"the grammar cannot be followed any further: {self._matcher.get_error().strip()[:600]}"


def _contains(token_ids: Sequence[int], marker: Sequence[int]) -> bool:
    return any(list(token_ids[i : i + len(marker)]) == list(marker) for i in range(len(token_ids) - len(marker) + 1))
