"""One request's share of a step result, turned into what is new for its client. Knows no queue and no block."""

from __future__ import annotations

from kvik.messages import FinishReason, TokenDelta, TokenLogprobs
from kvik.scheduler.request import Request
from kvik.step import SampledTokens, ScheduledRequest


def make_delta(
    request: Request,
    sampled: SampledTokens | None = None,
    prompt_logprobs: list[TokenLogprobs | None] | None = None,
    *,
    finish_reason: FinishReason | None = None,
    error: str | None = None,
    error_param: str | None = None,
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
        error_param=error_param,
    )


def why_unexpected(request: Request, sampled: SampledTokens, share: ScheduledRequest) -> str | None:
    """What is wrong with the tokens: when all known ones are computed, a step brings those of its drafts that came
    true and one more; else none."""
    drafts, num_tokens = share.draft_token_ids, len(sampled.token_ids)
    num_computed = share.num_computed_tokens + share.num_scheduled_tokens - len(drafts)
    num_least = 1 if num_computed == len(request.token_ids) else 0
    if num_tokens == num_least and not drafts:
        return None
    num_most = num_least + len(drafts) if num_least else 0
    if not num_least <= num_tokens <= num_most:
        return (
            f"the executor returned {num_tokens} tokens instead of {num_least}{f' to {num_most}' if drafts else ''} "
            f"with {num_computed} of {len(request.token_ids)} tokens computed"
        )
    if sampled.token_ids[:-1] != drafts[: max(0, num_tokens - 1)]:
        return f"the executor returned {num_tokens} tokens that are not the first drafts and one more"
    return None


def cut_to(sampled: SampledTokens, num_tokens: int) -> None:
    """Drop the tokens after the first `num_tokens`, with their logprobs: the request was over before them."""
    if len(sampled.token_ids) == num_tokens:
        return
    sampled.token_ids = sampled.token_ids[:num_tokens]
    if sampled.logprobs is not None:
        sampled.logprobs = sampled.logprobs[:num_tokens]


def take_unsent_prompt_logprobs(request: Request, sampled: SampledTokens) -> list[TokenLogprobs | None] | None:
    """Those that the client does not have. After a preemption the prompt is computed again from its start."""
    stretch = sampled.prompt_logprobs
    if not stretch:
        return None
    num_repeated = max(0, request.num_prompt_logprobs_sent - request.num_prompt_logprobs_seen)
    request.num_prompt_logprobs_seen += len(stretch)
    request.num_prompt_logprobs_sent = max(request.num_prompt_logprobs_sent, request.num_prompt_logprobs_seen)
    return stretch[num_repeated:] or None
