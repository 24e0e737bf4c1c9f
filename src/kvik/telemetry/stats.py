"""What one engine step brought, in numbers: plain records that the text room fills and the stat loggers read.

Durations are seconds. Intervals between engine events are of the engine's clock (`RequestEvent.time_s`,
`StepOutputs.time_s`); only what starts at a request's arrival includes the API process.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kvik.messages import FinishReason


@dataclass(slots=True)
class FinishedRequestStats:
    """One finished sequence; a request with n > 1 ends as n of these. Preemptions lie within prefill or decode."""

    finish_reason: FinishReason
    num_prompt_tokens: int
    num_generation_tokens: int
    num_cached_tokens: int = 0
    """Prompt tokens found in the prefix cache."""
    max_tokens: int | None = None
    """The effective limit; None where the request has none."""
    num_preemptions: int = 0
    e2e_s: float = 0.0
    """Arrival in the API process to now."""
    queue_s: float = 0.0
    """Ready for the engine to first scheduled, in the queues of both processes."""
    prefill_s: float = 0.0
    """First scheduled to the first token."""
    decode_s: float = 0.0
    """First token to the last token."""
    inference_s: float = 0.0
    """First scheduled to the last token."""

    @property
    def time_per_output_token_s(self) -> float:
        """Mean over the tokens after the first; 0 where there is only one."""
        return self.decode_s / (self.num_generation_tokens - 1) if self.num_generation_tokens > 1 else 0.0


@dataclass(slots=True)
class IterationStats:
    """One `StepOutputs`, summed over its requests."""

    num_prompt_tokens: int = 0
    """Prompt tokens of the sequences that got their first token in this step, cached ones included."""
    num_cached_tokens: int = 0
    """Those of them that the prefix cache had."""
    num_generation_tokens: int = 0
    time_to_first_token_s: list[float] = field(default_factory=list)
    """Arrival in the API process to the first token; one per sequence that got it in this step."""
    inter_token_latency_s: list[float] = field(default_factory=list)
    """Since the previous output of the same sequence; one per later output."""
    finished: list[FinishedRequestStats] = field(default_factory=list)
    finished_n: list[int] = field(default_factory=list)
    """The n asked for, one per request all of whose sequences are finished."""
    finished_max_generation_tokens: list[int] = field(default_factory=list)
    """The longest of its n answers in tokens, one per such request."""

    @property
    def num_computed_prompt_tokens(self) -> int:
        return self.num_prompt_tokens - self.num_cached_tokens
