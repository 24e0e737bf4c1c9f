"""What a proposer answers, and what all proposers are. Knows no method."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Proposal(NamedTuple):
    """Tokens that may come next."""

    token_ids: list[int]
    """Empty where nothing was found."""
    match_length: int
    """Tokens of context that the guess rests on: the longer, the surer."""


class Proposer(Protocol):
    """Guesses for one request, whose token ids it was given when it was made and whose owner lengthens them."""

    def propose(self, max_tokens: int) -> Proposal:
        """At most so many tokens that may follow the newest one."""


NOTHING = Proposal([], 0)
