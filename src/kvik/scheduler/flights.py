"""Steps that were planned and whose results are not there: what the next one may count on meanwhile.

A step can be planned while the last one is computed. It then takes from each request what is certain: chunks of
prompts, and the token that the last step is choosing, known only by its place ("the one that this request gets").
Who needs the token itself on the host before the next can be chosen (`scheduler/ahead.py`) sits such a step out.

Whoever stops running meanwhile is still computed in the steps that are under way. Their results for it are void, and
what it held is handed to nobody until the last of them is over. Knows requests and plans, no queue and no budget.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from kvik.blocks import KVCacheManager, SequenceBlocks
from kvik.messages import LoraRequest
from kvik.scheduler.request import Request
from kvik.step import StepPlan


class Holding(NamedTuple):
    """What a running request holds."""

    blocks: SequenceBlocks
    lora: LoraRequest | None


@dataclass(slots=True, eq=False)
class Flight:
    """One step between its plan and the end of its update."""

    plan: StepPlan
    tables: dict[Request, SequenceBlocks]
    """Of each scheduled request, in the plan's order, its blocks as this step writes and reads them."""
    void: set[Request] = field(default_factory=set)
    """Ended or preempted since: whatever the step brings them, it is not theirs any more."""
    kept: list[Holding] = field(default_factory=list)
    """Of void requests that no later step computes: nobody else's until this step is over."""


class Flights:
    """Steps under way, in the order in which they are computed. `depart` with a plan, `land` with its result."""

    def __init__(self) -> None:
        self._flights: deque[Flight] = deque()

    def __len__(self) -> int:
        return len(self._flights)

    def __iter__(self) -> Iterator[Flight]:
        return iter(self._flights)

    @property
    def held_tables(self) -> list[SequenceBlocks]:
        """Blocks that are no request's any more and not free yet."""
        return [holding.blocks for flight in self._flights for holding in flight.kept]

    def depart(self, plan: StepPlan, requests: Iterable[Request]) -> None:
        """`requests` are those of the plan, in its order."""
        self._flights.append(Flight(plan, {request: request.blocks for request in requests}))

    def land(self, plan: StepPlan) -> Flight | None:
        """The first step under way, which is under way no more; None if it is not the one of `plan`."""
        if not self._flights or self._flights[0].plan is not plan:
            return None
        return self._flights.popleft()

    def keep(self, request: Request, holding: Holding) -> bool:
        """The request stops running: its results are void. Whether `holding` is kept until a step is over.

        If it is, the request gets an empty table, as steps under way go on with the old one.
        """
        last = None
        for flight in self._flights:
            if request in flight.tables and request not in flight.void:
                flight.void.add(request)
                last = flight
        if last is None:
            return False
        last.kept.append(holding)
        request.blocks = holding.blocks.emptied()
        return True

    def have_room(
        self, decoding: Collection[Request], prompts: Iterable[Request], blocks: KVCacheManager, longest_chunk: int
    ) -> bool:
        """Whether these can go on without anybody's blocks being taken: while a step is under way nobody's are."""
        if not self._flights:
            return True
        num_free = blocks.num_free_blocks - _num_missing_blocks(prompts, blocks, longest_chunk)
        if num_free >= len(decoding):  # one token each, so one block at most
            return True
        return num_free >= _num_missing_blocks(decoding, blocks, longest_chunk)


def _num_missing_blocks(requests: Iterable[Request], blocks: KVCacheManager, longest_chunk: int) -> int:
    """What their next chunks want beside the blocks that they have."""
    num_missing = 0
    for request in requests:
        num_tokens = request.num_computed_tokens + min(request.num_ready_tokens, longest_chunk)
        num_missing += max(0, blocks.blocks_for(num_tokens) - len(request.blocks.blocks))
    return num_missing
