"""A whole answer of the Messages API from a finished output. Knows neither engine nor HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kvik.server.messages_api.blocks import BlockClosed, BlockSequence
from kvik.server.usage import phase_timings
from kvik.text.outputs import CompletionOutput, RequestOutput
from kvik.text.parsing import AnswerParser


@dataclass(frozen=True, kw_only=True, slots=True)
class MessageContext:
    """What all parts of one answer share."""

    request_id: str
    model: str
    shows_thinking: bool = True
    with_cached_tokens: bool = False
    """Usage tells which input tokens came from the prefix cache (--enable-prompt-tokens-details)."""
    with_timings: bool = False
    """Usage tells at the end how long each phase took."""


def message(context: MessageContext, output: RequestOutput, parser: AnswerParser) -> dict[str, Any]:
    """The body of the answer; keys without a value are left out. `parser` must be fresh."""
    answer = output.outputs[0]
    blocks = BlockSequence(context.shows_thinking)
    steps = blocks.add(parser.push(answer.text)) + blocks.add(parser.finish()) + blocks.end()
    reason, sequence = stop_of(answer, blocks.num_tool_calls)
    whole = message_head(context) | {
        "content": [step.block for step in steps if isinstance(step, BlockClosed)],
        "stop_reason": reason,
        "stop_sequence": sequence,
        "usage": final_usage(context, output, len(answer.token_ids)),
    }
    return {key: value for key, value in whole.items() if value is not None}


def message_head(context: MessageContext) -> dict[str, Any]:
    """What is known before the model has said anything."""
    return {"id": context.request_id, "type": "message", "role": "assistant", "model": context.model}


def stop_of(answer: CompletionOutput, num_tool_calls: int) -> tuple[str, str | None]:
    """`stop_reason` and `stop_sequence` of an answer that has ended."""
    if answer.finish_reason == "length":
        return "max_tokens", None
    if answer.finish_reason == "abort":
        return "pause_turn", None  # the server goes down: sent back as it is, the answer can be continued
    if num_tool_calls:
        return "tool_use", None
    if isinstance(answer.stop_reason, str) and answer.finish_reason == "stop":
        return "stop_sequence", answer.stop_reason
    return "end_turn", None


def final_usage(context: MessageContext, output: RequestOutput, num_output_tokens: int) -> dict[str, Any]:
    """`usage` of an answer that has ended."""
    timings = {"timings": phase_timings([output.times])} if context.with_timings else {}
    return usage(context, output, num_output_tokens) | timings


def usage(context: MessageContext, output: RequestOutput, num_output_tokens: int) -> dict[str, int]:
    """Here `input_tokens` are those that were computed; cached ones stand beside them, where they are told."""
    num_prompt_tokens = len(output.prompt_token_ids)
    if not context.with_cached_tokens:
        return {"input_tokens": num_prompt_tokens, "output_tokens": num_output_tokens}
    return {
        "input_tokens": num_prompt_tokens - output.num_cached_tokens,
        "cache_read_input_tokens": output.num_cached_tokens,
        "output_tokens": num_output_tokens,
    }
