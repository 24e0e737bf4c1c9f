"""Drafts in the scheduler's steps: who may have some, room for them, and what became of them. Knows no proposer.

Drafts never cost anybody anything but time: they come after all known tokens of a step, from blocks and budget that are
left over, and only in steps of decoding requests with nobody waiting.
"""

from __future__ import annotations

from collections.abc import Callable

from kvik.blocks import KVCacheManager
from kvik.config.speculative import SpeculativeConfig
from kvik.drafting import Candidate, Drafter
from kvik.scheduler.draft import StepDraft
from kvik.scheduler.request import Request
from kvik.step import StepPlan


class Speculation:
    """`add_drafts` and `planned` while a step is planned, `computed` when its result is there."""

    def __init__(self, config: SpeculativeConfig, blocks: KVCacheManager, clock: Callable[[], float]) -> None:
        self._num_most = config.num_speculative_tokens
        self._drafter = Drafter(config)
        self._blocks = blocks
        self._clock = clock
        self._planned_s = 0.0

    def add_drafts(self, draft: StepDraft) -> None:
        """Give drafts to the requests of a step in which each computes its newest token and nobody waits."""
        shares = draft.shares
        if not shares or any(r.num_tokens - r.num_computed_tokens != 1 for r in shares):
            return
        requests = list(shares)
        proposed = self._drafter.propose([self._candidate(request, draft) for request in requests])
        for request, token_ids in zip(requests, proposed, strict=True):
            token_ids = token_ids[: draft.num_free_tokens]
            if request.constraint is not None:
                token_ids = token_ids[: request.constraint.count_valid(token_ids)]
            if not token_ids:
                continue
            new_block_ids = self._blocks.grow(request.blocks, request.num_tokens + len(token_ids))
            if new_block_ids is not None:
                draft.add_drafts(request, token_ids, new_block_ids)

    def planned(self) -> None:
        """The plan goes to the executor now."""
        self._planned_s = self._clock()

    def computed(self, plan: StepPlan) -> None:
        """The executor has answered: learn what such a step costs, if it was one of decoding requests."""
        seconds = self._clock() - self._planned_s
        if plan.admitted or any(share.num_known_tokens != 1 for share in plan.scheduled):
            return
        num_drafts = sum(share.num_draft_tokens for share in plan.scheduled)
        self._drafter.learn(len(plan.scheduled) + num_drafts, num_drafts, seconds)

    def forget(self, request: Request) -> None:
        """A request is over."""
        answer = request.token_ids[request.num_prompt_tokens :]
        self._drafter.forget(request.request_id, answer, is_private=_is_private(request))

    def _candidate(self, request: Request, draft: StepDraft) -> Candidate:
        """A step brings one token more than it has drafts, so the last token of all is never drafted."""
        num_left = request.max_tokens_in_all - request.num_tokens - 1
        max_drafts = min(self._num_most, num_left, draft.num_free_tokens)
        return Candidate(request.request_id, request.token_ids, max_drafts, _is_private(request))


def _is_private(request: Request) -> bool:
    """Salted requests share no more than their blocks."""
    return request.blocks.salt is not None
