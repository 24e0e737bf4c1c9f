"""Prompt lookup: what followed the last n tokens the last time they stood in prompt or answer (Saxena, 2023).

The longest match within the asked lengths wins, the newest of equally long ones.
"""

from __future__ import annotations

from kvik.drafting.history import Occurrence, TokenHistory
from kvik.drafting.proposal import NOTHING, Proposal


class NgramProposer:
    """`token_ids` are one request's prompt and answer, lengthened by their owner."""

    def __init__(self, token_ids: list[int], min_length: int, max_length: int) -> None:
        self._history = TokenHistory(token_ids, min_length)
        self._max_length = max_length

    def propose(self, max_tokens: int) -> Proposal:
        self._history.catch_up()
        best = self._longest()
        if best is None:
            return NOTHING
        return Proposal(continue_from(self._history.token_ids, best.next_position, max_tokens), best.length)

    def _longest(self) -> Occurrence | None:
        best: Occurrence | None = None
        for occurrence in self._history.occurrences(self._history.token_ids, self._max_length):
            if best is None or occurrence.length > best.length:
                best = occurrence
                if best.length == self._max_length:
                    break
        return best


def continue_from(token_ids: list[int], position: int, count: int) -> list[int]:
    """The `count` tokens from `position` on. Where the sequence ends, what was copied goes on, as in LZ77: text that
    repeats with a short period is continued with that period."""
    copied = token_ids[position : position + count]
    period = len(token_ids) - position
    while len(copied) < count:
        copied.append(copied[len(copied) - period])
    return copied
