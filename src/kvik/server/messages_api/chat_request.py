"""A body of the Messages API -> the chat request that means the same; and errors of that in the client's terms."""

from __future__ import annotations

import re
from typing import Any

from kvik.errors import InvalidRequestError
from kvik.server.chat.protocol import ChatCompletionRequest
from kvik.server.fields import refuse_unsupported
from kvik.server.messages_api.conversation import chat_messages, continues_last_message
from kvik.server.messages_api.protocol import (
    ConversationFields,
    MessagesRequest,
    check_conversation,
    check_thinking_budget,
)
from kvik.server.messages_api.thinking import template_switches
from kvik.server.messages_api.tools import chat_tool_fields
from kvik.server.validation import validate

_TERMS = (
    (r"tools\.(\d+)\.function\.parameters", r"tools.\1.input_schema"),
    (r"tools\.(\d+)\.function", r"tools.\1"),
    (r"response_format(\.json_schema(\.schema)?)?", "output_config.format.schema"),
    (r"structured_outputs(\.json)?", "output_config.format.schema"),
    ("stop", "stop_sequences"),
    ("reasoning_effort", "output_config.effort"),
    ("parallel_tool_calls", "tool_choice.disable_parallel_tool_use"),
    ("continue_final_message", "messages"),
)
"""Chat's fields, as patterns, and the fields here that they came from. What follows a field's name stays as it is."""


def to_chat_request(body: ConversationFields, disabled_effort: str) -> ChatCompletionRequest:
    """Raises `InvalidRequestError` naming the field. `disabled_effort`: --anthropic-disabled-thinking-effort."""
    check_conversation(body)
    messages = chat_messages(body.system, body.messages)
    continues = continues_last_message(messages)
    fields: dict[str, Any] = {
        "model": body.model,
        "messages": messages,
        "add_generation_prompt": not continues,
        "continue_final_message": continues,
        **template_switches(body, disabled_effort),
        **chat_tool_fields(body.tools, body.tool_choice),
        **_answer_format(body),
    }
    if isinstance(body, MessagesRequest):
        fields |= _generation_fields(body)
    return validate(fields, ChatCompletionRequest)


def in_messages_terms(error: InvalidRequestError) -> InvalidRequestError:
    """The error with the name of the field that the client knows."""
    param = error.param or ""
    for pattern, ours in _TERMS:
        name, found = re.subn(rf"^{pattern}(?=\.|$)", ours, param)
        if found:
            return InvalidRequestError(error.message.replace(param, name, 1), param=name)
    return error


def _generation_fields(body: MessagesRequest) -> dict[str, Any]:
    refuse_unsupported(body, ("kv_transfer_params", "ec_transfer_params", "watermarking", "vllm_xargs"))
    check_thinking_budget(body.thinking, body.max_tokens)
    return {
        "max_tokens": body.max_tokens,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "top_k": body.top_k,
        "stop": body.stop_sequences,
        "stream": body.stream,
        "cache_salt": body.cache_salt,
        "user": body.metadata.user_id if body.metadata else None,
    }


def _answer_format(body: ConversationFields) -> dict[str, Any]:
    asked = body.output_config.format if body.output_config else None
    if asked is None:
        return {}
    schema = {"name": "answer", "schema": asked.json_schema, "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}
