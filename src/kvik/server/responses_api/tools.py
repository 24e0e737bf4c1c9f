"""Tools, the choice among them and the form of the text: from the Responses API's shapes to those of chat completions.

Here a function lies flat in its tool, `{"type": "function", "name", ...}`; there it is an object of its own.
"""

from __future__ import annotations

from typing import Any

from kvik.errors import InvalidRequestError

_CHOICES = ("none", "auto", "required")
_FORMATS = ("text", "json_object", "json_schema")


def read_tools(tools: list[Any] | None) -> list[dict[str, Any]]:
    """The tools in the form that responses show. Raises `InvalidRequestError`, naming e.g. `tools.0.type`."""
    return [_read_tool(tool, f"tools.{i}") for i, tool in enumerate(tools or ())]


def _read_tool(tool: Any, where: str) -> dict[str, Any]:
    if not isinstance(tool, dict):
        raise InvalidRequestError(f"{where} must be an object with a type and a name", param=where)
    kind = tool.get("type")
    if kind != "function":
        raise InvalidRequestError(
            f"{where}.type is {str(kind)[:100]!r}, but this server has no tools of its own; send functions",
            param=f"{where}.type",
        )
    if "name" not in tool and isinstance(tool.get("function"), dict):
        raise InvalidRequestError(
            f"{where}.name is missing: here a function's name, description and parameters lie beside its type, "
            "not in an object `function`",
            param=f"{where}.name",
        )
    _check(tool, "name", str, where, "a string that is not empty", needed=True)
    _check(tool, "description", str, where, "a string")
    _check(tool, "parameters", dict, where, "a JSON schema, an object")
    _check(tool, "strict", bool, where, "a boolean")
    return {"type": "function"} | {key: tool.get(key) for key in ("name", "description", "parameters", "strict")}


def read_tool_choice(choice: Any, tools: list[dict[str, Any]]) -> Any:
    """The choice in the form that responses show. Raises `InvalidRequestError` for one that names no tool of these."""
    if choice is None:
        return "auto" if tools else "none"
    if isinstance(choice, str):
        return _checked_word(choice, tools)
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind == "function":
        return {"type": "function", "name": _known_name(choice, tools, "tool_choice")}
    if kind == "allowed_tools":
        return _allowed(choice, tools)
    raise InvalidRequestError(
        f"tool_choice must be {', '.join(_CHOICES)}, or an object of type function or allowed_tools, got "
        f"{repr(choice)[:100]}",
        param="tool_choice",
    )


def _checked_word(choice: str, tools: list[dict[str, Any]]) -> str:
    if choice not in _CHOICES:
        raise InvalidRequestError(
            f"tool_choice must be one of {', '.join(_CHOICES)}, or an object, got {choice[:100]!r}", param="tool_choice"
        )
    if choice == "required" and not tools:
        raise InvalidRequestError("tool_choice 'required' needs tools", param="tool_choice")
    return choice if tools else "none"


def _allowed(choice: dict[str, Any], tools: list[dict[str, Any]]) -> dict[str, Any]:
    if choice.get("mode") not in ("auto", "required"):
        raise InvalidRequestError("tool_choice.mode must be auto or required", param="tool_choice.mode")
    entries = choice.get("tools")
    if not isinstance(entries, list) or not entries:
        raise InvalidRequestError("tool_choice.tools must be a list of tools", param="tool_choice.tools")
    names = [_known_name(entry, tools, f"tool_choice.tools.{i}") for i, entry in enumerate(entries)]
    functions = [{"type": "function", "name": name} for name in names]
    return {"type": "allowed_tools", "mode": choice["mode"], "tools": functions}


def _known_name(choice: Any, tools: list[dict[str, Any]], where: str) -> str:
    name = choice.get("name") if isinstance(choice, dict) and choice.get("type") == "function" else None
    names = [tool["name"] for tool in tools]
    if not isinstance(name, str) or name not in names:
        raise InvalidRequestError(
            f"{where} must have the type function and the name of one of the tools ({', '.join(names)[:200]}), got "
            f"{repr(choice)[:100]}",
            param=where,
        )
    return name


def to_chat_tools(tools: list[dict[str, Any]], choice: Any) -> dict[str, Any]:
    """`tools` and `tool_choice` of a chat request; nothing where there are no tools."""
    if not tools:
        return {}
    if isinstance(choice, dict) and choice["type"] == "allowed_tools":
        allowed = {entry["name"] for entry in choice["tools"]}
        tools = [tool for tool in tools if tool["name"] in allowed]
        choice = choice["mode"]
    if isinstance(choice, dict):
        choice = {"type": "function", "function": {"name": choice["name"]}}
    return {"tools": [_to_chat_tool(tool) for tool in tools], "tool_choice": choice}


def _to_chat_tool(tool: dict[str, Any]) -> dict[str, Any]:
    function = {key: value for key, value in tool.items() if key != "type" and value is not None}
    return {"type": "function", "function": function}


def read_format(text_format: Any) -> dict[str, Any]:
    """`text.format` in the form that responses show. Raises `InvalidRequestError`, naming e.g. `text.format.schema`."""
    if text_format is None:
        return {"type": "text"}
    kind = text_format.get("type") if isinstance(text_format, dict) else None
    if kind not in _FORMATS:
        raise InvalidRequestError(
            f"text.format must be an object with a type of {', '.join(_FORMATS)}, got {repr(text_format)[:100]}",
            param="text.format",
        )
    if kind != "json_schema":
        return {"type": kind}
    _check(text_format, "name", str, "text.format", "a string that is not empty", needed=True)
    _check(text_format, "schema", dict, "text.format", "a JSON schema, an object", needed=True)
    _check(text_format, "description", str, "text.format", "a string")
    _check(text_format, "strict", bool, "text.format", "a boolean")
    return {"type": kind} | {key: text_format.get(key) for key in ("name", "description", "schema", "strict")}


def to_response_format(text_format: dict[str, Any]) -> dict[str, Any] | None:
    """`response_format` of a chat request; None for plain text."""
    if text_format["type"] == "text":
        return None
    if text_format["type"] == "json_object":
        return {"type": "json_object"}
    schema = {key: value for key, value in text_format.items() if key != "type" and value is not None}
    return {"type": "json_schema", "json_schema": schema}


def _check(fields: dict[str, Any], key: str, kind: type, where: str, wanted: str, *, needed: bool = False) -> None:
    value = fields.get(key)
    is_missing = value is None or value == "" if needed else value is None
    if is_missing and not needed:
        return
    if is_missing or not isinstance(value, kind):
        raise InvalidRequestError(f"{where}.{key} must be {wanted}, got {repr(value)[:100]}", param=f"{where}.{key}")
