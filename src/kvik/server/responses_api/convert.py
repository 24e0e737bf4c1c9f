"""A request with its conversation as the body of a chat completion; errors come back in its own terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kvik.errors import InvalidRequestError
from kvik.server.chat.protocol import ChatCompletionRequest
from kvik.server.responses_api.conversation import chat_messages
from kvik.server.responses_api.input_items import Item
from kvik.server.responses_api.protocol import ResponsesRequest
from kvik.server.responses_api.tools import (
    read_format,
    read_tool_choice,
    read_tools,
    to_chat_tools,
    to_response_format,
)
from kvik.server.validation import validate

_SAME_IN_CHAT = (
    "model", "temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty",
    "seed", "stop", "stop_token_ids", "include_stop_str_in_output", "ignore_eos", "logit_bias", "skip_special_tokens",
    "structured_outputs", "priority", "cache_salt", "parallel_tool_calls", "include_reasoning",
)  # fmt: skip
_TERMS = {
    "messages": "input",
    "input_tokens": "input",
    "input_text": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "logprobs": "top_logprobs",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
}
"""What chat completions and the engine call a field -> what it is called here."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """The parts of a body that are read by hand, in the form that responses show."""

    tools: list[dict[str, Any]]
    tool_choice: Any
    text_format: dict[str, Any]

    @classmethod
    def of(cls, body: ResponsesRequest) -> Wishes:
        """Raises `InvalidRequestError` naming the field."""
        tools = read_tools(body.tools)
        text_format = read_format(body.text.format if body.text else None)
        return cls(tools, read_tool_choice(body.tool_choice, tools), text_format)


def to_chat_request(body: ResponsesRequest, wishes: Wishes, items: Sequence[Item]) -> ChatCompletionRequest:
    """The chat request that continues `items`. Raises `InvalidBodyError` where chat completions refuse a value."""
    content = {name: getattr(body, name) for name in _SAME_IN_CHAT}
    content |= {
        "messages": chat_messages(items, body.instructions),
        "max_completion_tokens": body.max_output_tokens,
        "stream": bool(body.stream or body.background),
        "response_format": to_response_format(wishes.text_format),
        "reasoning_effort": body.reasoning.effort if body.reasoning else None,
        "chat_template_kwargs": _template_variables(body),
    }
    content |= to_chat_tools(wishes.tools, wishes.tool_choice)
    if body.num_logprobs is not None:
        content |= {"logprobs": True, "top_logprobs": body.num_logprobs}
    return validate({name: value for name, value in content.items() if value is not None}, ChatCompletionRequest)


def in_own_terms(error: InvalidRequestError) -> InvalidRequestError:
    """The same error, naming the field that the client sent."""
    head, dot, rest = (error.param or "").partition(".")
    if head == "tools" and ".function" in rest:  # here a function lies flat in its tool
        flat = f"tools.{rest.replace('.function', '', 1)}"
        return InvalidRequestError(error.message.replace(f"tools.{rest}", flat, 1), param=flat)
    name = _TERMS.get(head)
    if name is None:
        return error
    param = name + (dot + rest if name == "text.format" else "")
    return InvalidRequestError(error.message.replace(head, name, 1), param=param)


def _template_variables(body: ResponsesRequest) -> dict[str, Any] | None:
    """Templates that know no verbosity ignore it."""
    variables = dict(body.chat_template_kwargs or {})
    if body.text is not None and body.text.verbosity is not None:
        variables.setdefault("verbosity", body.text.verbosity)
    return variables or None
