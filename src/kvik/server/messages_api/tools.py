"""`tools` and `tool_choice` -> those of a chat request."""

from __future__ import annotations

from typing import Any

from kvik.errors import InvalidRequestError
from kvik.server.messages_api.protocol import Tool, ToolChoice


def chat_tool_fields(tools: list[Tool] | None, choice: ToolChoice | None) -> dict[str, Any]:
    """The chat fields `tools`, `tool_choice` and `parallel_tool_calls`; only those that were asked for.

    Raises `InvalidRequestError` for a tool that the server would have to run, and a choice that names none.
    """
    fields: dict[str, Any] = {}
    if tools:
        fields["tools"] = [_chat_tool(tool, f"tools.{i}") for i, tool in enumerate(tools)]
    if choice is None:
        return fields
    if not tools and choice.type != "none":
        if choice.type == "auto":
            return fields
        raise InvalidRequestError(f"tool_choice {choice.type!r} needs tools", param="tool_choice")
    fields["tool_choice"] = _chat_choice(choice)
    if choice.disable_parallel_tool_use:
        fields["parallel_tool_calls"] = False
    return fields


def _chat_tool(tool: Tool, where: str) -> dict[str, Any]:
    if tool.type not in (None, "custom"):
        raise InvalidRequestError(
            f"{where}.type is {tool.type[:100]!r}, but only tools that the client runs and describes are known here: "
            "leave type out, and give name, description and input_schema",
            param=f"{where}.type",
        )
    if tool.input_schema is None:
        raise InvalidRequestError(f"{where} needs an input_schema, a JSON schema", param=f"{where}.input_schema")
    function: dict[str, Any] = {"name": tool.name, "parameters": tool.input_schema}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _chat_choice(choice: ToolChoice) -> str | dict[str, Any]:
    if choice.type != "tool":
        return "required" if choice.type == "any" else choice.type
    if not choice.name:
        raise InvalidRequestError("tool_choice of type 'tool' needs the tool's name", param="tool_choice.name")
    return {"type": "function", "function": {"name": choice.name}}
