"""One request's share of a step result, turned into what is new for its client. Knows no queue and no block."""

from __future__ import annotations

from kvik.messages import FinishReason, TokenDelta, TokenLogprobs
from kvik.scheduler.request import Request
from kvik.step import SampledTokens


def make_delta(
    request: Request,
    sampled: SampledTokens | None = None,
    prompt_logprobs: list[TokenLogprobs | None] | None = None,
    *,
    finish_reason: FinishReason | None = None,
    error: str | None = None,
) -> TokenDelta:
    """Takes the request's events with it."""
    return TokenDelta(
        request.request_id,
        sampled.token_ids if sampled is not None else [],
        sampled.logprobs if sampled is not None else None,
        prompt_logprobs,
        finish_reason,
        None,
        error,
        request.num_cached_tokens or 0,
        request.take_events(),
    )


def why_unexpected(request: Request, sampled: SampledTokens) -> str | None:
    """What is wrong with the number of tokens: a step brings one when all known tokens are computed, else none."""
    num_expected = 1 if request.num_computed_tokens == len(request.token_ids) else 0
    if len(sampled.token_ids) == num_expected:
        return None
    return (
        f"the executor returned {len(sampled.token_ids)} tokens instead of {num_expected} "
        f"with {request.num_computed_tokens} of {len(request.token_ids)} tokens computed"
    )


def take_unsent_prompt_logprobs(request: Request, sampled: SampledTokens) -> list[TokenLogprobs | None] | None:
    """Those that the client does not have. After a preemption the prompt is computed again from its start."""
    stretch = sampled.prompt_logprobs
    if not stretch:
        return None
    num_repeated = max(0, request.num_prompt_logprobs_sent - request.num_prompt_logprobs_seen)
    request.num_prompt_logprobs_seen += len(stretch)
    request.num_prompt_logprobs_sent = max(request.num_prompt_logprobs_sent, request.num_prompt_logprobs_seen)
    return stretch[num_repeated:] or None
