"""What a caller says of a request besides what is to be computed, and is told of its wait. Knows no HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from kvik.messages import NOTED_GRAMMAR_WAIT_S


class WaitReason(StrEnum):
    """What a request waits for in front of the engine."""

    SLOTS = "slots"
    """As many sequences run as may, or as many of this owner as leave room for others."""
    BUDGET = "budget"
    """Prompts that are not computed yet fill the next steps."""
    BLOCKS = "blocks"
    """The engine has no KV blocks for what it has been given already."""
    GRAMMAR = "grammar"
    """Its constraint was compiled meanwhile; nothing else kept it."""


@dataclass(slots=True, kw_only=True)
class Ticket:
    """One per HTTP request; all of its prompts share it. The desk writes the last two fields."""

    owner: str = ""
    """Who shares fairly with others: a key, a tenant; never shown."""
    caller: str = ""
    """Who sent it: the name of a key. Nobody else may end it."""
    deadline_s: float | None = None
    """On the clock of the desk (monotonic): when the whole answer is worth nothing any more."""
    is_continued: bool = False
    """A further step of a request that was let in: limits do not apply to it again."""
    position: int | None = None
    """Requests before it when it arrived, those that go first by their turn; 0: it did not wait; None: not there."""
    waiting_for: WaitReason | None = None

    def note(self, position: int, reason: WaitReason | None) -> None:
        """Remember the worst of what its prompts met."""
        if self.position is None or position > self.position:
            self.position, self.waiting_for = position, reason

    def note_grammar(self, wait_s: float) -> None:
        """Remember a wait that was for the constraint, if there was none in the queue."""
        if self.waiting_for is None and wait_s >= NOTED_GRAMMAR_WAIT_S:
            self.waiting_for = WaitReason.GRAMMAR
