"""What the requests that wait in the scheduler wait for. Knows how the last scan of the queue ended, and no queue."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from kvik.messages import NOTED_GRAMMAR_WAIT_S, WaitingFor
from kvik.scheduler.request import Request, RequestStatus


class Lack(StrEnum):
    """What the first request in turn lacks; those behind it wait for the same, as nobody overtakes."""

    BLOCKS = "blocks"
    SLOTS = "slots"
    BUDGET = "budget"


@dataclass(frozen=True, slots=True)
class HeldUp:
    """How the last scan of the queue ended."""

    lack: Lack = Lack.BUDGET
    without_adapter: frozenset[str] = frozenset()
    """Ids of requests that were passed over, as their adapter could not run."""
    at_s: float = float("-inf")
    """When the scan was; who came later was not looked at."""

    def waiting_for(self, num_queued: int, num_preparing: int) -> WaitingFor | None:
        """Of all that wait: `num_queued` stand in the queue, the grammars of `num_preparing` are being compiled."""
        if not num_queued and not num_preparing:
            return None
        adapter = min(len(self.without_adapter), num_queued)
        waiting = WaitingFor(grammar=num_preparing, adapter=adapter)
        setattr(waiting, self.lack, num_queued - adapter)
        return waiting

    def reason_of(self, request: Request) -> str | None:
        """Why this one waits, or has waited until now: a field of `WaitingFor`; None: nothing has kept it yet."""
        if request.status is RequestStatus.PREPARING:
            return "grammar"
        if request.waits_since_s < self.at_s:
            return "adapter" if request.request_id in self.without_adapter else str(self.lack)
        return "grammar" if request.waits_since_s - request.queued_s >= NOTED_GRAMMAR_WAIT_S else None
