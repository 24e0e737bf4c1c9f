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
        delta = TokenDelta(
            "", list(given.token_ids), given.logprobs, finish_reason=given.finish_reason, stop_reason=given.stop_reason
        )
        answer.update(delta, 0.0, IterationStats())
    return RequestOutput(
        request_id="",
        prompt=prompt,
        prompt_token_ids=prompt_token_ids,
        outputs=[answer.take_output() for answer in replayed],
        finished=True,
    )
