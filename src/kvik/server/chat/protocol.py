"""The body of POST /v1/chat/completions. Knows no engine; messages are checked where they are rendered."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, WithJsonSchema

from kvik.config.limits import RequestLimits
from kvik.errors import InvalidRequestError
from kvik.server.fields import GENERATION_UNSUPPORTED, GenerationFields, Int64, check_common, refuse_unsupported

_TEXT_PART_SCHEMA = {
    "type": "object",
    "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
    "required": ["type", "text"],
}
MESSAGE_SCHEMA = {
    "type": "object",
    "properties": {
        "role": {"type": "string", "examples": ["system", "user", "assistant", "tool"]},
        "content": {"anyOf": [{"type": "string"}, {"type": "array", "items": _TEXT_PART_SCHEMA}, {"type": "null"}]},
        "name": {"type": "string"},
        "reasoning": {"type": "string"},
        "tool_calls": {"type": "array", "items": {"type": "object"}},
        "tool_call_id": {"type": "string"},
    },
    "required": ["role"],
}

Message = Annotated[dict[str, Any], WithJsonSchema(MESSAGE_SCHEMA)]

TOOL_SCHEMA = {
    "type": "object",
    "properties": {
        "type": {"const": "function"},
        "function": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "description": {"type": "string"},
                "parameters": {"type": "object", "description": "a JSON schema"},
                "strict": {"type": "boolean"},
            },
            "required": ["name"],
        },
    },
    "required": ["function"],
}
ToolDict = Annotated[dict[str, Any], WithJsonSchema(TOOL_SCHEMA)]
"""Stays a dict, as templates want it whole; checked in tools.py."""

_CHAT_UNSUPPORTED = (
    "functions", "function_call", "audio", "modalities", "media_io_kwargs",
    "mm_processor_kwargs", "thinking_token_budget",
)  # fmt: skip


class ChatCompletionRequest(GenerationFields):
    """A conversation to continue."""

    messages: list[Message]
    max_completion_tokens: Int64 | None = Field(None, description="tokens of the answer; none: what fits")
    max_tokens: Int64 | None = Field(None, description="older name of max_completion_tokens")
    logprobs: bool | None = None
    top_logprobs: Int64 | None = Field(None, description="alternatives per token; needs logprobs")
    echo: bool = Field(False, description="put the last message first, if its role is the answer's")
    add_generation_prompt: bool = True
    continue_final_message: bool = Field(False, description="go on where the last message ends")
    add_special_tokens: bool = Field(False, description="templates usually bring their own")
    chat_template: str | None = Field(None, description="needs --trust-request-chat-template")
    chat_template_kwargs: dict[str, Any] | None = Field(None, description="variables for the template")
    documents: list[dict[str, Any]] | None = Field(None, description="documents for the template")
    reasoning_effort: str | None = Field(None, description="given to the template")
    include_reasoning: bool = Field(True, description="false: leave reasoning out of the answer")
    tools: list[ToolDict] | None = Field(None, description="functions that the model may call")
    tool_choice: str | dict[str, Any] | None = Field(None, description="none, auto, required, or one of the tools")
    parallel_tool_calls: bool | None = Field(None, description="false: at most one call")
    return_prompt_text: bool | None = None
    session_id: str | None = Field(None, description="ignored: there is one engine")

    # Not built yet.
    functions: Any = None
    function_call: Any = None
    audio: Any = None
    modalities: Any = None
    media_io_kwargs: Any = None
    mm_processor_kwargs: Any = None
    thinking_token_budget: Any = None

    @property
    def asked_max_tokens(self) -> int | None:
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def num_logprobs(self) -> int | None:
        """Alternatives per generated token; None without logprobs."""
        return (self.top_logprobs or 0) if self.logprobs else None


_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def check_chat_request(request: ChatCompletionRequest, limits: RequestLimits) -> None:
    """All that can be said without template and tokenizer. Raises `InvalidRequestError` naming the field."""
    _refuse_functions(request)
    refuse_unsupported(request, _CHAT_UNSUPPORTED + GENERATION_UNSUPPORTED)
    check_common(request, limits, asks_logprobs=bool(request.logprobs))
    check_messages(request.messages, limits)
    if request.top_logprobs and not request.logprobs:
        raise InvalidRequestError("top_logprobs need logprobs=true", param="top_logprobs")
    if request.continue_final_message and request.add_generation_prompt:
        raise InvalidRequestError(
            "continue_final_message and add_generation_prompt exclude each other; set the latter to false",
            param="continue_final_message",
        )
    if request.reasoning_effort not in (None, *_EFFORTS):
        raise InvalidRequestError(f"reasoning_effort must be one of {', '.join(_EFFORTS)}", param="reasoning_effort")


def _refuse_functions(request: ChatCompletionRequest) -> None:
    if request.functions:
        raise InvalidRequestError("functions are the older form of tools; send tools instead", param="functions")
    if request.function_call not in (None, "none"):
        raise InvalidRequestError(
            "function_call is the older form of tool_choice; send tool_choice instead", param="function_call"
        )


def check_messages(messages: list[dict[str, Any]], limits: RequestLimits) -> None:
    if not messages:
        raise InvalidRequestError("messages must hold at least one message", param="messages")
    limits.check(len(messages), limits.max_messages, "messages", "messages")
    num_parts = sum(len(c) for m in messages if isinstance(c := m.get("content"), list))
    limits.check(num_parts, limits.max_content_parts, "messages", "content parts")
