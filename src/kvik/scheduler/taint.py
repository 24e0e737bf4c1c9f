"""Which requests read blocks that were not written after all. Runs only when a request has failed.

A request may share blocks that another one fills in the same step or in one before it. If that other one fails, nobody
can tell whether its keys and values were written, so whoever read them must be computed again.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

from kvik.blocks import SequenceBlocks
from kvik.scheduler.flights import Flight
from kvik.step import ScheduledRequest


def tables_without_valid_blocks(
    flights: Sequence[Flight], failed: Set[SequenceBlocks], block_size: int
) -> dict[SequenceBlocks, int]:
    """The failed tables and all that read, directly or through others, what these were to write -> tokens still valid.

    `failed` are those whose requests failed in the first of `flights`, which are in the order of their computation. One
    pass in batch order is enough: a request can share only blocks of those that stand before it.
    """
    num_valid_tokens: dict[SequenceBlocks, int] = {}
    tainted_blocks: set[int] = set()
    for flight in flights:
        for share, blocks in zip(flight.plan.scheduled, flight.tables.values(), strict=True):
            num_read = share.num_computed_tokens // block_size
            table = [block.block_id for block in blocks.blocks]
            is_tainted = blocks in failed or blocks in num_valid_tokens
            if is_tainted or not tainted_blocks.isdisjoint(table[:num_read]):
                num_valid_tokens.setdefault(blocks, share.num_computed_tokens)
                tainted_blocks.update(table[num_read : _num_full_blocks(share, block_size)])
    return num_valid_tokens


def _num_full_blocks(share: ScheduledRequest, block_size: int) -> int:
    return (share.num_computed_tokens + share.num_scheduled_tokens) // block_size
