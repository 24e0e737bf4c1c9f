"""What the requests that wait in the scheduler wait for. Knows counts only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from kvik.messages import WaitingFor


class Lack(StrEnum):
    """What the first request in turn lacks; those behind it wait for the same, as nobody overtakes."""

    BLOCKS = "blocks"
    SLOTS = "slots"
    BUDGET = "budget"


@dataclass(frozen=True, slots=True)
class HeldUp:
    """How the last scan of the queue ended."""

    lack: Lack = Lack.BUDGET
    num_without_adapter: int = 0
    """Requests that were passed over, as their adapter could not run."""

    def waiting_for(self, num_queued: int, num_preparing: int) -> WaitingFor | None:
        """Of all that wait: `num_queued` stand in the queue, the grammars of `num_preparing` are being compiled."""
        if not num_queued and not num_preparing:
            return None
        adapter = min(self.num_without_adapter, num_queued)
        waiting = WaitingFor(grammar=num_preparing, adapter=adapter)
        setattr(waiting, self.lack, num_queued - adapter)
        return waiting
