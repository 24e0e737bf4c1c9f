"""Answers that another process has generated -> outputs, as if their tokens came from this engine now.

The text, its end and its logprobs are made by what makes them for every stream. Knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from kvik.messages import FinishReason, TokenDelta, TokenLogprobs
from kvik.sampling_params import OutputKind, SamplingParams
from kvik.telemetry.stats import IterationStats
from kvik.text.answer import Answer
from kvik.text.logprobs import LogprobDecoder
from kvik.text.outputs import RequestOutput
from kvik.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class GivenAnswer:
    """One answer in token ids of the vocabulary."""

    index: int
    token_ids: list[int]
    finish_reason: FinishReason
    stop_reason: int | str | None = None
    logprobs: list[TokenLogprobs] | None = None
    """One per token id."""


def replay(
    tokenizer: Tokenizer,
    prompt: str | None,
    prompt_token_ids: list[int],
    params: SamplingParams,
    answers: Sequence[GivenAnswer],
) -> RequestOutput:
    """The finished output of a request with `params` whose answers these are."""
    params = replace(params, output_kind=OutputKind.FINAL_ONLY)
    decoder = LogprobDecoder(tokenizer.backend)
    replayed = [Answer(given.index, "", prompt_token_ids, params, 0.0, tokenizer, decoder) for given in answers]
    for given, answer in zip(answers, replayed, strict=True):
        _take(answer, given)
    return RequestOutput(
        request_id="",
        prompt=prompt,
        prompt_token_ids=prompt_token_ids,
        outputs=[answer.take_output() for answer in replayed],
        finished=True,
    )


def _take(answer: Answer, given: GivenAnswer) -> None:
    """A stop string is found in the text, as it was where the answer was generated; an engine ends by tokens only."""
    ends_in_text = isinstance(given.stop_reason, str)
    delta = TokenDelta("", list(given.token_ids), given.logprobs)
    if not ends_in_text:
        delta.finish_reason, delta.stop_reason = given.finish_reason, given.stop_reason
    answer.update(delta, 0.0, IterationStats())
    if answer.finish_reason is None:  # the stop string is not among those of the request
        answer.end(given.finish_reason)
