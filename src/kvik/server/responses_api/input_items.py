"""The `input` of a request -> items of one form: checked, texts as parts, each with an id of ours.

Forms: `{"type": "message", "id", "role", "content": [parts], "status"}`, `{"type": "function_call", "id", "call_id",
"name", "arguments", "status"}`, `{"type": "function_call_output", "id", "call_id", "output", "status"}`,
`{"type": "reasoning", "id", "summary", "content", "status"}`. Ids that came with items are not kept: whoever sends
items cannot choose what another's `item_reference` finds. Knows neither templates nor the store's rules.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kvik.config.limits import RequestLimits
from kvik.errors import InvalidRequestError
from kvik.server.responses_api.errors import UnknownResponseError
from kvik.server.responses_api.ids import Prefix, new_id

Item = dict[str, Any]
FindItem = Callable[[str], Item | None]
"""Id -> the stored item of that id."""

_ROLES = ("user", "assistant", "system", "developer")
_PARTS = {"input_text": "text", "output_text": "text", "text": "text", "refusal": "refusal"}
"""Types of parts that are text, and the key that holds it."""


def read_input(content: Any, find_item: FindItem, limits: RequestLimits) -> list[Item]:
    """The items of `input`. Raises `InvalidRequestError` naming the field, e.g. `input.2.content.0.type`."""
    if isinstance(content, str):
        content = [{"type": "message", "role": "user", "content": content}]
    if not isinstance(content, list):
        raise _wrong("input", "a string or a list of items", content)
    if not content:
        raise InvalidRequestError("input must hold at least one item", param="input")
    limits.check(len(content), limits.max_messages, "input", "items")
    items = [_read(item, f"input.{i}", find_item) for i, item in enumerate(content)]
    num_parts = sum(len(item["content"]) for item in items if item["type"] == "message")
    limits.check(num_parts, limits.max_content_parts, "input", "content parts")
    return items


def check_outputs(items: Sequence[Item], num_earlier: int) -> None:
    """Each output of a function answers a call before it. `num_earlier` items are not of this request."""
    call_ids: set[str] = set()
    for i, item in enumerate(items):
        if item["type"] == "function_call":
            call_ids.add(item["call_id"])
        elif item["type"] == "function_call_output" and item["call_id"] not in call_ids:
            where = f"input.{i - num_earlier}.call_id"
            raise InvalidRequestError(
                f"{where}: no function_call before it has the call_id {item['call_id'][:100]!r}; send the call too, or "
                "the previous_response_id of the response that made it",
                param=where,
            )


def text_of(parts: Sequence[Mapping[str, Any]]) -> list[str]:
    """The texts of a message's parts."""
    return [str(part[_PARTS[part["type"]]]) for part in parts]


def _read(item: Any, where: str, find_item: FindItem) -> Item:
    if not isinstance(item, dict):
        raise _wrong(where, "an object with a type", item)
    kind = item.get("type")
    if kind is None:
        kind = "message" if "role" in item else "item_reference" if "id" in item else None
    if kind == "item_reference":
        return _referenced(item, where, find_item)
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        raise InvalidRequestError(
            f"{where}.type must be one of {', '.join(_READERS)} or item_reference, got {_shown(kind)}",
            param=f"{where}.type",
        )
    return reader(item, where)


def _message(item: Item, where: str) -> Item:
    role = item.get("role")
    if role not in _ROLES:
        raise InvalidRequestError(
            f"{where}.role must be one of {', '.join(_ROLES)}, got {_shown(role)}", param=f"{where}.role"
        )
    parts = _parts(item.get("content"), f"{where}.content", "output_text" if role == "assistant" else "input_text")
    return {"type": "message", "id": new_id("msg"), "role": role, "content": parts, "status": "completed"}


def _function_call(item: Item, where: str) -> Item:
    call = {
        "type": "function_call",
        "id": new_id("fc"),
        "call_id": _text(item, "call_id", where),
        "name": _text(item, "name", where),
        "arguments": _text(item, "arguments", where, may_be_empty=True),
        "status": "completed",
    }
    _check_arguments(call["arguments"], f"{where}.arguments")
    return call


def _function_call_output(item: Item, where: str) -> Item:
    output = item.get("output")
    if not isinstance(output, str):
        output = _parts(output, f"{where}.output", "input_text")
    return {
        "type": "function_call_output",
        "id": new_id("fco"),
        "call_id": _text(item, "call_id", where),
        "output": output,
        "status": "completed",
    }


def _reasoning(item: Item, where: str) -> Item:
    """Encrypted reasoning cannot be read here; an item that has nothing else says nothing."""
    return {
        "type": "reasoning",
        "id": new_id("rs"),
        "summary": _reasoning_texts(item, "summary", "summary_text", where),
        "content": _reasoning_texts(item, "content", "reasoning_text", where),
        "status": "completed",
    }


_READERS: dict[str, Callable[[Item, str], Item]] = {
    "message": _message,
    "function_call": _function_call,
    "function_call_output": _function_call_output,
    "reasoning": _reasoning,
}


def _referenced(item: Item, where: str, find_item: FindItem) -> Item:
    found = find_item(_text(item, "id", where))
    if found is None:
        raise UnknownResponseError(
            f"{where}.id: no stored item has the id {item['id'][:100]!r}; send the item itself", param=f"{where}.id"
        )
    prefix: Prefix = found["id"].partition("_")[0]
    return found | {"id": new_id(prefix)}


def _parts(content: Any, where: str, kind: str) -> list[Item]:
    """Parts with their text and nothing else; `kind` is the type of a content that came as a string."""
    if isinstance(content, str):
        return [_part(kind, content)]
    if not isinstance(content, list):
        raise _wrong(where, "a string or a list of parts", content)
    return [_read_part(part, f"{where}.{i}") for i, part in enumerate(content)]


def _read_part(part: Any, where: str) -> Item:
    if not isinstance(part, dict):
        raise _wrong(where, "an object with a type", part)
    kind = part.get("type")
    key = _PARTS.get(kind) if isinstance(kind, str) else None
    if key is None:
        raise InvalidRequestError(
            f"{where}.type is {_shown(kind)}, but this model reads text only; send parts of type input_text",
            param=f"{where}.type",
        )
    if not isinstance(part.get(key), str):
        raise _wrong(f"{where}.{key}", "a string", part.get(key))
    return _part("input_text" if kind == "text" else str(kind), part[key])


def _part(kind: str, text: str) -> Item:
    part: Item = {"type": kind, _PARTS[kind]: text}
    return part | {"annotations": [], "logprobs": []} if kind == "output_text" else part


def _reasoning_texts(item: Item, key: str, kind: str, where: str) -> list[Item]:
    parts = item.get(key) or []
    if not isinstance(parts, list):
        raise _wrong(f"{where}.{key}", "a list of parts", parts)
    for i, part in enumerate(parts):
        if not (isinstance(part, dict) and part.get("type") == kind and isinstance(part.get("text"), str)):
            raise _wrong(f"{where}.{key}.{i}", f"an object with the type {kind} and a text", part)
    return [{"type": kind, "text": part["text"]} for part in parts]


def _text(item: Item, key: str, where: str, *, may_be_empty: bool = False) -> str:
    value = item.get(key)
    if not isinstance(value, str) or not (value or may_be_empty):
        raise _wrong(f"{where}.{key}", "a string" if may_be_empty else "a string that is not empty", value)
    return value


def _check_arguments(arguments: str, where: str) -> None:
    try:
        value = json.loads(arguments) if arguments.strip() else {}
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"{where} must be a JSON object as text: {error}", param=where) from None
    if not isinstance(value, dict):
        raise _wrong(where, "a JSON object as text", value)


def _wrong(where: str, wanted: str, value: Any) -> InvalidRequestError:
    return InvalidRequestError(f"{where} must be {wanted}, got {_shown(value)}", param=where)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:100] + "..."
