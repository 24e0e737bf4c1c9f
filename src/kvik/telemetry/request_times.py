"""When things happened to one sequence, and how long that makes each phase of it. Plain records; know no text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(slots=True)
class RequestTimes:
    """Of one sequence, in seconds on CLOCK_MONOTONIC; 0 means not yet.

    `scheduled_s`, `first_token_s` and `last_token_s` are the engine's, the others the API process's; it is one clock.
    """

    arrival_s: float
    queued_s: float = 0.0
    """When it was ready for the engine: checked, tokenized, its grammar compiled."""
    scheduled_s: float = 0.0
    """First admission; kept when the request is preempted and comes back."""
    first_token_s: float = 0.0
    last_token_s: float = 0.0
    first_token_latency_s: float = 0.0
    """From arrival to the first token in the API process: tokenizing and queueing included."""
    finished_s: float = 0.0
    """When the API process handed out the last output."""
    waiting_for: str | None = None
    """What it waited for before it ran: a field of `messages.WaitingFor`; None: for nothing."""
    finish_reason: str | None = None
    num_tokens: int = 0
    """Of the answer."""
    max_tokens: int | None = None
    """The effective limit of the answer; None where there is none, or several."""
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    """Prompt tokens found in the prefix cache."""
    num_preemptions: int = 0
    detokenize_s: float = 0.0
    """Spent on turning tokens into text; a part of the times around it."""

    @property
    def prepare_s(self) -> float:
        """Checking, tokenizing, compiling a grammar."""
        return _span(self.arrival_s, self.queued_s)

    @property
    def queue_s(self) -> float:
        """In the queues of both processes; until its end, for a sequence of which the engine has not said that it ran:
        it says so with the first token."""
        return _span(self.queued_s, self.scheduled_s or self.finished_s)

    @property
    def prefill_s(self) -> float:
        """From the first admission to the first token, or to the end without one."""
        return _span(self.scheduled_s, self.first_token_s or self.finished_s)

    @property
    def decode_s(self) -> float:
        """From the first token to the last one."""
        return _span(self.first_token_s, self.last_token_s)

    @property
    def time_per_output_token_s(self) -> float:
        """Mean over the tokens after the first; 0 where there is only one."""
        return self.decode_s / (self.num_tokens - 1) if self.num_tokens > 1 else 0.0

    @property
    def inference_s(self) -> float:
        """From the first admission to the last token."""
        return _span(self.scheduled_s, self.last_token_s)

    @property
    def total_s(self) -> float:
        """From arrival to the last output, or to the last token where there is more to come."""
        return _span(self.arrival_s, self.finished_s or self.last_token_s)


def joined(prompts: Sequence[Sequence[RequestTimes]]) -> RequestTimes:
    """One record for a request, from the sequences of each of its prompts; there must be one at least.

    A phase is from the first sequence that began it to the last that ended it. A prompt counts once, whatever n is.
    """
    sequences = [times for prompt in prompts for times in prompt]
    return RequestTimes(
        arrival_s=min(s.arrival_s for s in sequences),
        queued_s=_first(s.queued_s for s in sequences),
        scheduled_s=_first(s.scheduled_s for s in sequences),
        first_token_s=_first(s.first_token_s for s in sequences),
        last_token_s=max(s.last_token_s for s in sequences),
        first_token_latency_s=_first(s.first_token_latency_s for s in sequences),
        finished_s=max(s.finished_s for s in sequences),
        waiting_for=next((s.waiting_for for s in sequences if s.waiting_for is not None), None),
        finish_reason=", ".join(dict.fromkeys(s.finish_reason for s in sequences if s.finish_reason)) or None,
        num_tokens=sum(s.num_tokens for s in sequences),
        num_prompt_tokens=sum(max(s.num_prompt_tokens for s in prompt) for prompt in prompts if prompt),
        num_cached_tokens=sum(max(s.num_cached_tokens for s in prompt) for prompt in prompts if prompt),
        num_preemptions=sum(s.num_preemptions for s in sequences),
        detokenize_s=sum(s.detokenize_s for s in sequences),
    )


def _first(times_s: Iterable[float]) -> float:
    return min((time_s for time_s in times_s if time_s), default=0.0)


def _span(start_s: float, end_s: float) -> float:
    """Seconds between two times; 0 where one of them never came."""
    return max(0.0, end_s - start_s) if start_s and end_s else 0.0
