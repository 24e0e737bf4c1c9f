"""A step while it is being planned: who is in it, and what is left of its tokens and of its time."""

from __future__ import annotations

from kvik.scheduler.request import Request
from kvik.scheduler.time_budget import PromptTime
from kvik.step import AdmittedRequest, ScheduledRequest, StepPlan


class StepDraft:
    """Collects shares of requests until the budget is used up."""

    def __init__(self, num_budget_tokens: int) -> None:
        self.num_free_tokens = num_budget_tokens
        """What is left of the budget."""
        self.prompt_time: PromptTime | None = None
        """What is left of the time for prompts; None: no limit."""
        self.has_preempted = False
        self.shares: dict[Request, ScheduledRequest] = {}
        """In batch order."""
        self.admitted: list[AdmittedRequest] = []

    @property
    def is_full(self) -> bool:
        return self.num_free_tokens == 0 or (self.prompt_time is not None and self.prompt_time.is_used_up)

    def fit(self, num_computed_tokens: int, num_tokens: int) -> int:
        """How many of a request's next `num_tokens` there is room for. Takes their time, not their tokens."""
        num_tokens = min(num_tokens, self.num_free_tokens)
        return num_tokens if self.prompt_time is None else self.prompt_time.take(num_computed_tokens, num_tokens)

    def add(self, request: Request, num_tokens: int, new_block_ids: list[int]) -> None:
        """Schedule the next `num_tokens` tokens of a request."""
        first = request.num_computed_tokens
        share = self.shares[request] = ScheduledRequest(request.request_id, first, num_tokens, new_block_ids)
        if first + num_tokens > len(request.token_ids):
            share.input_in_flight = True
        self.num_free_tokens -= num_tokens

    def add_drafts(self, request: Request, draft_token_ids: list[int], new_block_ids: list[int]) -> None:
        """Let a share that is in go on with guesses."""
        share = self.shares[request]
        share.draft_token_ids = draft_token_ids
        share.num_scheduled_tokens += len(draft_token_ids)
        share.new_block_ids = share.new_block_ids + new_block_ids
        self.num_free_tokens -= len(draft_token_ids)

    def discard(self, request: Request) -> None:
        """Take a request out again, if it is in, and give its tokens back to the budget."""
        share = self.shares.pop(request, None)
        if share is not None:
            self.num_free_tokens += share.num_scheduled_tokens

    def plan(self, dropped_request_ids: list[str]) -> StepPlan:
        return StepPlan(self.admitted, list(self.shares.values()), dropped_request_ids)
