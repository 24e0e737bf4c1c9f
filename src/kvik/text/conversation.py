"""OpenAI messages -> the plain dicts that chat templates read. Knows no template and no HTTP.

What clients send varies: a content as string, as parts or null; arguments of tool calls as JSON text; reasoning under
two names. What templates read varies less, and this is it:

- `content` is a string ("string" format; text parts are joined by newlines), or a list of parts
  `{"type": "text", "text": ...}` ("openai" format); null where there is none;
- `arguments` of a tool call are an object;
- the older `function_call` is a tool call, and the role `function` is `tool`;
- reasoning is there under both names, `reasoning` and `reasoning_content`.

Everything else passes as it came. The caller's objects are never changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from kvik.errors import InvalidRequestError
from kvik.text.content_format import ContentFormat

Message = Mapping[str, Any]
"""One message of a conversation: a JSON object with at least a `role`."""

_TEXT_PARTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
"""Types of parts that are text, and the key that holds it."""


def template_messages(messages: Sequence[Message], content_format: ContentFormat) -> list[dict[str, Any]]:
    """The messages in the form above. Raises `InvalidRequestError` naming the message and the part that is wrong."""
    if not messages:
        raise InvalidRequestError("messages must hold at least one message", param="messages")
    return [_template_message(m, f"messages.{i}", content_format) for i, m in enumerate(messages)]


def _template_message(message: Message, where: str, content_format: ContentFormat) -> dict[str, Any]:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise InvalidRequestError(f"{where} must be an object with a role", param=where)
    plain = dict(message)
    plain["content"] = _content(plain.get("content"), f"{where}.content", content_format)
    if plain["role"] == "function":
        plain["role"] = "tool"
    if not plain.get("tool_calls") and isinstance(call := plain.pop("function_call", None), Mapping):
        plain["tool_calls"] = [{"type": "function", "function": call}]
    reasoning = plain.get("reasoning") or plain.get("reasoning_content")
    if reasoning is not None:
        plain |= {"reasoning": reasoning, "reasoning_content": reasoning}
    if not isinstance(plain.get("tool_calls"), list | None):
        raise InvalidRequestError(f"{where}.tool_calls must be a list", param=f"{where}.tool_calls")
    if plain.get("tool_calls"):
        plain["tool_calls"] = [_tool_call(c, f"{where}.tool_calls.{i}") for i, c in enumerate(plain["tool_calls"])]
    return plain


def _content(content: Any, where: str, content_format: ContentFormat) -> Any:
    """None stays None: an assistant's message that only calls tools has no content."""
    if content is None:
        return None
    if isinstance(content, str):
        return content if content_format == "string" else [{"type": "text", "text": content}]
    if not isinstance(content, Sequence):
        raise InvalidRequestError(f"{where} must be a string or a list of parts, got {_kind(content)}", param=where)
    texts = [_part_text(part, f"{where}.{i}") for i, part in enumerate(content)]
    return "\n".join(texts) if content_format == "string" else [{"type": "text", "text": text} for text in texts]


def _part_text(part: Any, where: str) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        raise InvalidRequestError(f"{where} must be a string or an object with a type, got {_kind(part)}", param=where)
    kind = part.get("type", "text")
    key = _TEXT_PARTS.get(kind) if isinstance(kind, str) else None
    if key is None:
        raise InvalidRequestError(
            f"{where} has type {kind!r}, but this model reads text only; send parts of type 'text'", param=where
        )
    if not isinstance(part.get(key), str):
        raise InvalidRequestError(f"{where}.{key} must be a string", param=f"{where}.{key}")
    return str(part[key])


def _tool_call(call: Any, where: str) -> Any:
    """The call with its arguments as an object; templates print them with `tojson`."""
    if not isinstance(call, Mapping) or not isinstance(call.get("function"), Mapping):
        raise InvalidRequestError(f"{where} must be an object with a function", param=where)
    function = dict(call["function"])
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        function["arguments"] = _parse_arguments(arguments, f"{where}.function.arguments")
    elif arguments is None:
        function["arguments"] = {}
    return dict(call) | {"function": function}


def _parse_arguments(text: str, where: str) -> Any:
    try:
        arguments = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"{where} must be a JSON object as text: {error}", param=where) from None
    if not isinstance(arguments, dict):
        raise InvalidRequestError(f"{where} must be a JSON object as text, got {_kind(arguments)}", param=where)
    return arguments


def _kind(value: Any) -> str:
    return type(value).__name__
