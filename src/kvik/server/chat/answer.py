"""A whole chat completion from finished outputs. Knows neither engine nor HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kvik.server.chat.protocol import ChatCompletionRequest
from kvik.server.logprobs import chat_logprobs, prompt_logprobs
from kvik.server.usage import UsageCounter, timings
from kvik.text.outputs import CompletionOutput, RequestOutput


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

    def shown_prompt_text(self) -> str | None:
        return self.prompt_text if self.request.return_prompt_text else None


def chat_completion(context: ChatAnswer, output: RequestOutput) -> dict[str, Any]:
    """The body of the answer; keys without a value are there, as null."""
    usage = UsageCounter(context.with_usage_details)
    usage.add(0, output, context.num_choices)
    return {
        "id": context.request_id,
        "object": "chat.completion",
        "created": context.created_s,
        "model": context.model,
        "choices": [_choice(context, answer) for answer in output.outputs],
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


def _choice(context: ChatAnswer, answer: CompletionOutput) -> dict[str, Any]:
    return {
        "index": answer.index,
        "message": {
            "role": context.role,
            "content": context.echo_text + answer.text,
            "refusal": None,
            "annotations": None,
            "audio": None,
            "function_call": None,
            "reasoning": None,
        },
        "logprobs": context.logprobs(answer),
        "finish_reason": answer.finish_reason,
        "stop_reason": answer.stop_reason,
        "token_ids": context.token_ids(answer.token_ids),
        "routed_experts": None,
    }


def _timings(context: ChatAnswer, output: RequestOutput) -> dict[str, Any] | None:
    if not (context.with_timings and context.num_choices == 1 and output.times):
        return None
    return timings(output.times[0], len(output.outputs[0].token_ids))
