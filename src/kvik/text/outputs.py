"""What a request brings back: text, token ids, log probabilities. Plain records; know no HTTP.

The names are the field's: `RequestOutput` holds one `CompletionOutput` per answer that has news. What "news" is
depends on the request's `OutputKind`: everything so far, only what is new, or all answers once at the end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from kvik.telemetry.request_times import RequestTimes


class Logprob(NamedTuple):
    """One token at one position."""

    logprob: float
    """Natural logarithm, at most 0; may be -inf for a token that a mask forbids."""
    rank: int
    """1 is the most likely token of the vocabulary."""
    decoded_token: str
    """The token's own text; a part of a character is "" until the token that completes it."""

    @property
    def utf8(self) -> list[int]:
        """The text as UTF-8, the `bytes` of OpenAI's answers."""
        return list(self.decoded_token.encode("utf-8"))


PositionLogprobs = dict[int, Logprob]
"""By token id. The chosen token comes first, then ranks 1, 2, ...; a chosen token among the best is there once."""


@dataclass(slots=True)
class CompletionOutput:
    """One answer of a request (there are n of them), or what is new of it."""

    index: int
    """0 to n - 1."""
    text: str
    token_ids: list[int]
    """Includes a stop token, whose text is left out."""
    logprobs: list[PositionLogprobs] | None = None
    """One per token id, if asked for."""
    cumulative_logprob: float | None = None
    """Sum over all chosen tokens so far, if logprobs were asked for."""
    finish_reason: str | None = None
    """"stop", "length", "abort", "error" or "repetition" once the answer has ended."""
    stop_reason: int | str | None = None
    """The stop string or stop token id that ended it; None for the EOS token."""

    @property
    def finished(self) -> bool:
        return self.finish_reason is not None


@dataclass(slots=True)
class RequestOutput:
    """The news of one request."""

    request_id: str
    """The caller's."""
    prompt: str | None
    """None where the prompt came as token ids."""
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput]
    """With DELTA and CUMULATIVE, those that have news, in order of `index`; with FINAL_ONLY, all n."""
    finished: bool
    """All n answers have ended."""
    prompt_logprobs: list[PositionLogprobs | None] | None = None
    """One per prompt token, the first None, if asked for; with DELTA in one output only."""
    num_cached_tokens: int = 0
    """Prompt tokens whose keys and values came from the prefix cache."""
    times: list[RequestTimes] = field(default_factory=list)
    """Live records, one per answer, in order of `index`. Read only."""
