"""Which requests of a step read blocks that were not written after all. Runs only when a request has failed.

A request may share blocks that another one fills in the same step. If that other one fails, nobody can tell whether
its keys and values were written, so whoever read them must be computed again.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

from kvik.scheduler.request import Request
from kvik.step import ScheduledRequest, StepPlan


def requests_without_valid_blocks(
    plan: StepPlan, failed_ids: Set[str], requests: Mapping[str, Request], block_size: int
) -> set[str]:
    """Ids of the failed requests and of all that read, directly or through others, what these were to write.

    One pass in batch order is enough: a request can share only blocks of those that stand before it.
    """
    tainted_ids: set[str] = set()
    tainted_blocks: set[int] = set()
    for share in plan.scheduled:
        request = requests.get(share.request_id)
        if request is None:
            continue
        num_read = share.num_computed_tokens // block_size
        table = [block.block_id for block in request.blocks.blocks]
        if share.request_id in failed_ids or not tainted_blocks.isdisjoint(table[:num_read]):
            tainted_ids.add(share.request_id)
            tainted_blocks.update(table[num_read : _num_full_blocks(share, block_size)])
    return tainted_ids


def _num_full_blocks(share: ScheduledRequest, block_size: int) -> int:
    return (share.num_computed_tokens + share.num_scheduled_tokens) // block_size
