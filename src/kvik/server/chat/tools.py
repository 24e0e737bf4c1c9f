"""The tools of a chat request and what it wants done with them. Knows no format of calls and no grammar."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from kvik.config.frontend import ServerConfig
from kvik.config.limits import RequestLimits
from kvik.errors import InvalidRequestError

_NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")
_NAME_RULE = "1 to 128 letters, digits, _ . : / or -"


class Choice(Enum):
    """Who decides about calls."""

    NONE = "none"
    """Nobody calls; the answer is not searched for calls."""
    AUTO = "auto"
    """The model."""
    REQUIRED = "required"
    """The model chooses among the tools, but calls."""
    NAMED = "named"
    """One call of the tool that the request names."""


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    parameters: Mapping[str, Any]
    """A JSON schema of an object."""
    is_strict: bool


@dataclass(frozen=True, slots=True)
class ToolUse:
    """What may be called and what must be."""

    choice: Choice = Choice.NONE
    tools: tuple[Tool, ...] = ()
    """Those that may be called."""
    is_parallel: bool = True
    """There may be several calls."""

    @property
    def is_forced(self) -> bool:
        return self.choice in (Choice.REQUIRED, Choice.NAMED)

    @property
    def schemas(self) -> dict[str, Mapping[str, Any]]:
        return {tool.name: tool.parameters for tool in self.tools}


def tool_use(body: Any, config: ServerConfig, limits: RequestLimits) -> ToolUse:
    """Check what a chat request says of tools. Raises `InvalidRequestError` naming the field."""
    tools = check_tools(body.tools, limits)
    choice, names = _choice(body.tool_choice, [tool.name for tool in tools])
    if choice == Choice.AUTO and not (config.enable_auto_tool_choice and config.tool_call_parser):
        raise InvalidRequestError(
            'tool_choice "auto" needs a server started with --enable-auto-tool-choice and --tool-call-parser; '
            '"none", "required" and a named tool work without',
            param="tool_choice",
        )
    chosen = tuple(tool for tool in tools if tool.name in names)
    return ToolUse(choice, chosen, body.parallel_tool_calls is not False)


def check_tools(tools: list[dict[str, Any]] | None, limits: RequestLimits) -> list[Tool]:
    if tools is None:
        return []
    if not tools:
        raise InvalidRequestError("tools must hold at least one tool; leave it out", param="tools")
    limits.check(len(tools), limits.max_tools, "tools", "tools")
    found = [_tool(tool, f"tools.{i}", limits) for i, tool in enumerate(tools)]
    names: set[str] = set()
    for i, tool in enumerate(found):
        if tool.name in names:
            raise InvalidRequestError(
                f"tools.{i}.function.name is {tool.name!r} once more; names must differ",
                param=f"tools.{i}.function.name",
            )
        names.add(tool.name)
    return found


def template_tools(tools: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
    """As templates want them: as they came, each with its type."""
    return [{"type": "function", **tool} for tool in tools] if tools else None


def _tool(tool: dict[str, Any], where: str, limits: RequestLimits) -> Tool:
    if tool.get("type", "function") != "function":
        raise InvalidRequestError(f"{where}.type must be 'function': other tools are not run here", param=where)
    function = tool.get("function")
    if not isinstance(function, dict):
        raise InvalidRequestError(f"{where}.function must be an object with a name", param=f"{where}.function")
    name = function.get("name")
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise InvalidRequestError(
            f"{where}.function.name must be {_NAME_RULE}, got {str(name)[:200]!r}", param=f"{where}.function.name"
        )
    if not isinstance(function.get("description"), str | None):
        raise InvalidRequestError(f"{where}.function.description must be a string", param=f"{where}.function")
    strict = function.get("strict")
    if not isinstance(strict, bool | None):
        raise InvalidRequestError(f"{where}.function.strict must be true or false", param=f"{where}.function.strict")
    return Tool(name, _parameters(function.get("parameters"), f"{where}.function.parameters", limits), bool(strict))


def _parameters(schema: Any, where: str, limits: RequestLimits) -> Mapping[str, Any]:
    """The schema of the arguments, which are always an object."""
    if schema is None:
        return {"type": "object", "properties": {}}
    if not isinstance(schema, dict):
        raise InvalidRequestError(f"{where} must be a JSON schema, an object", param=where)
    limits.check(len(json.dumps(schema)), limits.max_tool_schema_chars, where, "characters of JSON")
    kind = schema.get("type", "object")
    if kind != "object" and kind != ["object"]:
        raise InvalidRequestError(
            f"{where}.type must be 'object', got {str(kind)[:200]!r}: arguments have names", param=where
        )
    return {**schema, "type": "object"}


def _choice(asked: Any, names: list[str]) -> tuple[Choice, list[str]]:
    """Who decides, and between which tools."""
    if asked is None:
        return (Choice.AUTO, names) if names else (Choice.NONE, [])
    if asked == "none":
        return Choice.NONE, names
    if not names:
        raise InvalidRequestError("tool_choice needs tools to choose from; add tools", param="tool_choice")
    if asked in ("auto", "required"):
        return Choice(asked), names
    if isinstance(asked, dict):
        if asked.get("type") == "allowed_tools":
            return _allowed(asked.get("allowed_tools"), names)
        return Choice.NAMED, [_named(asked, names)]
    raise InvalidRequestError(
        f'tool_choice must be "none", "auto", "required" or {{"type": "function", "function": {{"name": ...}}}}, '
        f"got {str(asked)[:200]!r}",
        param="tool_choice",
    )


def _named(asked: Any, names: list[str]) -> str:
    function = asked.get("function") if isinstance(asked, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or name not in names:
        raise InvalidRequestError(
            f"tool_choice names {str(name)[:200]!r}, which is none of the tools: {', '.join(names)[:1000]}",
            param="tool_choice",
        )
    return name


def _allowed(asked: Any, names: list[str]) -> tuple[Choice, list[str]]:
    tools = asked.get("tools") if isinstance(asked, dict) else None
    if not isinstance(tools, list) or not tools or asked.get("mode") not in ("auto", "required"):
        raise InvalidRequestError(
            'tool_choice.allowed_tools needs a mode, "auto" or "required", and a list of tools', param="tool_choice"
        )
    return Choice(asked["mode"]), [_named(tool, names) for tool in tools]
