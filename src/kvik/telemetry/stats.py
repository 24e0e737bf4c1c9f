"""What one engine step brought, in numbers: plain records that the text room fills and the stat loggers read.

Durations are seconds. Intervals between engine events are of the engine's clock (`RequestEvent.time_s`,
`StepOutputs.time_s`); only what starts at a request's arrival includes the API process.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kvik.telemetry.request_times import RequestTimes


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
    finished: list[RequestTimes] = field(default_factory=list)
    """One per sequence; a request with n > 1 ends as n of these."""
    finished_n: list[int] = field(default_factory=list)
    """The n asked for, one per request all of whose sequences are finished."""
    finished_max_generation_tokens: list[int] = field(default_factory=list)
    """The longest of its n answers in tokens, one per such request."""

    @property
    def num_computed_prompt_tokens(self) -> int:
        return self.num_prompt_tokens - self.num_cached_tokens
