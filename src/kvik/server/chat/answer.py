"""A whole chat completion from finished outputs. Knows neither engine nor HTTP."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kvik.server.chat.protocol import ChatCompletionRequest
from kvik.server.chat.tools import Choice
from kvik.server.logprobs import chat_logprobs, prompt_logprobs
from kvik.server.usage import UsageCounter, timings
from kvik.text.outputs import CompletionOutput, RequestOutput
from kvik.text.parsing import AnswerParser, ParsedAnswer, ReasoningDelta
from kvik.text.parsing.reasoning_tokens import ReasoningTokens


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatAnswer:
    """What all parts of the answer to one request share."""

    request: ChatCompletionRequest
    request_id: str
    created_s: int
    model: str
    role: str
    prompt_text: str
    echo_text: str = ""
    """Put before each answer; the last message's content, if `echo` asks for it."""
    choice: Choice = Choice.NONE
    """Who decided about calls of tools."""
    new_parser: Callable[[], AnswerParser] | None = None
    """None: answers are content and nothing else."""
    new_counter: Callable[[], ReasoningTokens] | None = None
    fingerprint: str | None = None
    as_token_ids: bool = False
    """Logprobs name tokens as `token_id:N`."""
    with_usage_details: bool = False
    with_timings: bool = False

    @property
    def num_choices(self) -> int:
        return self.request.n or 1

    def logprobs(self, answer: CompletionOutput) -> dict[str, Any] | None:
        num_top = self.request.num_logprobs
        if num_top is None or answer.logprobs is None:
            return None
        return chat_logprobs(answer.logprobs, num_top, self.as_token_ids, self.request.logprob_token_ids or ())

    def token_ids(self, token_ids: list[int]) -> list[int] | None:
        return token_ids if self.request.return_token_ids else None

    def finish_reason(self, reason: str | None, num_calls: int) -> str | None:
        """What the client is told. A cut answer stays "length": its last call may be incomplete."""
        if reason == "stop" and num_calls and self.choice in (Choice.AUTO, Choice.REQUIRED):
            return "tool_calls"
        return reason

    def shown_prompt_text(self) -> str | None:
        return self.prompt_text if self.request.return_prompt_text else None


def chat_completion(context: ChatAnswer, output: RequestOutput) -> dict[str, Any]:
    """The body of the answer; keys without a value are there, as null."""
    usage = UsageCounter(context.with_usage_details, context.request.return_timings)
    usage.add(0, output, context.num_choices)
    choices = [_choice(context, answer, usage) for answer in output.outputs]
    return {
        "id": context.request_id,
        "object": "chat.completion",
        "created": context.created_s,
        "model": context.model,
        "choices": choices,
        "service_tier": None,
        "system_fingerprint": context.fingerprint,
        "usage": usage.total(),
        "prompt_logprobs": prompt_logprobs(output.prompt_logprobs),
        "prompt_token_ids": context.token_ids(output.prompt_token_ids),
        "prompt_text": context.shown_prompt_text(),
        "kv_transfer_params": None,
        "ec_transfer_params": None,
        "metrics": _timings(context, output),
    }


def new_call_id() -> str:
    return f"chatcmpl-tool-{secrets.token_hex(8)}"


def _choice(context: ChatAnswer, answer: CompletionOutput, usage: UsageCounter) -> dict[str, Any]:
    parsed = _parsed(context, answer, usage)
    return {
        "index": answer.index,
        "message": _message(context, parsed),
        "logprobs": context.logprobs(answer),
        "finish_reason": context.finish_reason(answer.finish_reason, len(parsed.tool_calls)),
        "stop_reason": answer.stop_reason,
        "token_ids": context.token_ids(answer.token_ids),
        "routed_experts": None,
    }


def _parsed(context: ChatAnswer, answer: CompletionOutput, usage: UsageCounter) -> ParsedAnswer:
    if context.new_parser is None:
        return ParsedAnswer(content=answer.text)
    parsed = ParsedAnswer.of_text(answer.text, context.new_parser())
    if context.new_counter is not None:
        counter = context.new_counter()
        counter.add(answer.token_ids, [ReasoningDelta(parsed.reasoning)])
        usage.num_reasoning_tokens[answer.index] = counter.count
    return parsed


def _message(context: ChatAnswer, parsed: ParsedAnswer) -> dict[str, Any]:
    content = context.echo_text + parsed.content
    says_else = bool(parsed.tool_calls or parsed.reasoning)
    reasoning = parsed.reasoning or None if context.request.include_reasoning else None
    message: dict[str, Any] = {
        "role": context.role,
        "content": None if says_else and not content else content,
        "refusal": None,
        "annotations": None,
        "audio": None,
        "function_call": None,
        "reasoning": reasoning,
        "reasoning_content": reasoning,
    }
    if parsed.tool_calls:
        message["tool_calls"] = [
            {"id": new_call_id(), "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in parsed.tool_calls
        ]
    return message


def _timings(context: ChatAnswer, output: RequestOutput) -> dict[str, Any] | None:
    if not (context.with_timings and context.num_choices == 1 and output.times):
        return None
    return timings(output.times[0], len(output.outputs[0].token_ids))
