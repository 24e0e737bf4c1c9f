"""JSON schemas of the parts of a body that are read by hand, for /openapi.json. Data only."""

from __future__ import annotations

from typing import Any

_TEXT: dict[str, Any] = {"type": "string"}
_STATUS = {"enum": ["in_progress", "completed", "incomplete", None]}


def _object(kind: str | None, required: list[str], **properties: Any) -> dict[str, Any]:
    if kind is not None:
        properties = {"type": {"const": kind}} | properties
    return {"type": "object", "properties": properties, "required": required}


_PART = {
    "anyOf": [
        _object("input_text", ["type", "text"], text=_TEXT),
        _object("output_text", ["type", "text"], text=_TEXT),
        _object("refusal", ["type", "refusal"], refusal=_TEXT),
    ]
}
_CONTENT = {"anyOf": [_TEXT, {"type": "array", "items": _PART}]}
_MESSAGE = _object(
    "message",
    ["role", "content"],
    role={"enum": ["user", "assistant", "system", "developer"]},
    content=_CONTENT,
    status=_STATUS,
)
_CALL = _object(
    "function_call",
    ["type", "call_id", "name", "arguments"],
    call_id=_TEXT,
    name=_TEXT,
    arguments={"type": "string", "description": "the text of a JSON object"},
    status=_STATUS,
)
_INPUT_TEXTS = {"type": "array", "items": _object("input_text", ["type", "text"], text=_TEXT)}
_OUTPUT = _object(
    "function_call_output",
    ["type", "call_id", "output"],
    call_id=_TEXT,
    output={"anyOf": [_TEXT, _INPUT_TEXTS]},
)
_REASONING = _object(
    "reasoning",
    ["type"],
    content={
        "anyOf": [
            {"type": "array", "items": _object("reasoning_text", ["type", "text"], text=_TEXT)},
            {"type": "null"},
        ]
    },
    summary={"type": "array", "items": _object("summary_text", ["type", "text"], text=_TEXT)},
)
_REFERENCE = _object("item_reference", ["id"], id=_TEXT)

INPUT_SCHEMA: dict[str, Any] = {
    "anyOf": [
        _TEXT,
        {"type": "array", "items": {"anyOf": [_MESSAGE, _CALL, _OUTPUT, _REASONING, _REFERENCE]}},
    ]
}
TOOL_SCHEMA: dict[str, Any] = _object(
    "function",
    ["type", "name"],
    name=_TEXT,
    description={"type": ["string", "null"]},
    parameters={"type": ["object", "null"], "description": "a JSON schema"},
    strict={"type": ["boolean", "null"]},
)
_FUNCTION_CHOICE = _object("function", ["type", "name"], name=_TEXT)
TOOL_CHOICE_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"enum": ["none", "auto", "required", None]},
        _FUNCTION_CHOICE,
        _object(
            "allowed_tools",
            ["type", "mode", "tools"],
            mode={"enum": ["auto", "required"]},
            tools={"type": "array", "items": _FUNCTION_CHOICE},
        ),
    ]
}
FORMAT_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "null"},
        _object("text", ["type"]),
        _object("json_object", ["type"]),
        _object(
            "json_schema",
            ["type", "name", "schema"],
            name=_TEXT,
            schema={"type": "object"},
            description={"type": ["string", "null"]},
            strict={"type": ["boolean", "null"]},
        ),
    ]
}
