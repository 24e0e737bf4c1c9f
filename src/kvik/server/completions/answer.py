"""A whole completion from finished outputs. Knows neither engine nor HTTP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kvik.server.completions.protocol import CompletionRequest
from kvik.server.logprobs import CompletionLogprobs, prompt_logprobs
from kvik.server.usage import UsageCounter, timings
from kvik.text.outputs import CompletionOutput, PositionLogprobs, RequestOutput

DecodeIds = Callable[[list[int]], str]
"""Token ids -> text, special tokens included."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CompletionAnswer:
    """What all parts of the answer to one request share."""

    request: CompletionRequest
    request_id: str
    created_s: int
    model: str
    decode: DecodeIds
    """Names the tokens of an echoed prompt; raises nothing for ids of the vocabulary."""
    num_prompts: int = 1
    fingerprint: str | None = None
    as_token_ids: bool = False
    """Logprobs name tokens as `token_id:N`."""
    with_usage_details: bool = False
    with_timings: bool = False

    @property
    def n(self) -> int:
        return self.request.n or 1

    @property
    def num_choices(self) -> int:
        return self.num_prompts * self.n

    def prompt_text(self, output: RequestOutput) -> str:
        """The prompt as the model read it: what was truncated is not there."""
        if output.prompt is None or self.request.truncate_prompt_tokens is not None:
            return self.decode(output.prompt_token_ids)
        return output.prompt

    @property
    def echoes_logprobs(self) -> bool:
        return self.request.echo and self.request.logprobs is not None

    def token_ids(self, token_ids: list[int]) -> list[int] | None:
        return token_ids if self.request.return_token_ids else None


@dataclass(slots=True)
class Piece:
    """Some of a choice: text and the tokens that it is made of, prompt tokens of an echo included."""

    text: str
    token_ids: list[int]
    positions: Sequence[PositionLogprobs | None] | None

    def __add__(self, other: Piece) -> Piece:
        together = None
        if self.positions is not None and other.positions is not None:
            together = [*self.positions, *other.positions]
        return Piece(self.text + other.text, self.token_ids + other.token_ids, together)


def echo_piece(context: CompletionAnswer, output: RequestOutput) -> Piece:
    """The prompt as a piece of each choice."""
    return Piece(context.prompt_text(output), output.prompt_token_ids, output.prompt_logprobs)


def answer_piece(context: CompletionAnswer, answer: CompletionOutput, echo: Piece | None) -> Piece:
    """What the answer brings, after the prompt where that is echoed."""
    generated = Piece(answer.text, answer.token_ids, answer.logprobs)
    if context.request.echoes_only:
        generated = Piece("", [], None if context.request.logprobs is None else [])
    return generated if echo is None else echo + generated


def piece_logprobs(context: CompletionAnswer, piece: Piece, lists: CompletionLogprobs) -> dict[str, Any] | None:
    """The four lists of a piece; `lists` remembers where the text of earlier pieces ended."""
    if context.request.logprobs is None or piece.positions is None:
        return None
    unnamed = [i for i, p in zip(piece.token_ids, piece.positions, strict=True) if p is None]
    return lists.of(piece.positions, piece.token_ids, {i: context.decode([i]) for i in unnamed})


def completion(context: CompletionAnswer, outputs: Sequence[RequestOutput]) -> dict[str, Any]:
    """The body of the answer; keys without a value are there, as null."""
    usage = UsageCounter(context.with_usage_details, context.request.return_timings)
    choices = []
    for prompt_index, output in enumerate(outputs):
        usage.add(prompt_index, output, context.n)
        echo = echo_piece(context, output) if context.request.echo else None
        choices += [_choice(context, prompt_index, output, answer, echo) for answer in output.outputs]
    return {
        "id": context.request_id,
        "object": "text_completion",
        "created": context.created_s,
        "model": context.model,
        "choices": choices,
        "service_tier": None,
        "system_fingerprint": context.fingerprint,
        "usage": usage.total(),
        "kv_transfer_params": None,
        "ec_transfer_params": None,
        "metrics": _timings(context, outputs),
    }


def _choice(
    context: CompletionAnswer, prompt_index: int, output: RequestOutput, answer: CompletionOutput, echo: Piece | None
) -> dict[str, Any]:
    piece = answer_piece(context, answer, echo)
    return {
        "index": prompt_index * context.n + answer.index,
        "text": piece.text,
        "logprobs": piece_logprobs(context, piece, CompletionLogprobs(context.as_token_ids)),
        "finish_reason": answer.finish_reason,
        "stop_reason": answer.stop_reason,
        "token_ids": context.token_ids(piece.token_ids),
        "prompt_logprobs": prompt_logprobs(output.prompt_logprobs),
        "prompt_token_ids": context.token_ids(output.prompt_token_ids),
        "routed_experts": None,
    }


def _timings(context: CompletionAnswer, outputs: Sequence[RequestOutput]) -> dict[str, Any] | None:
    if not (context.with_timings and context.num_choices == 1 and outputs[0].times):
        return None
    return timings(outputs[0].times[0], len(outputs[0].outputs[0].token_ids))
