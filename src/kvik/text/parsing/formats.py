"""The formats that there are, by name: kvik's own, those of installed packages, and those of a file of the operator.

A package offers formats as entry points: in the group `kvik.tool_parsers` a `ToolFormat`, in `kvik.reasoning_parsers`
a `ReasoningFormat`, each under its name. A file has them in dicts named TOOL_PARSERS and REASONING_PARSERS. Such code
is the operator's choice, made at the command line; nothing of a model's folder is ever run.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar

from kvik.errors import ConfigError
from kvik.text.parsing.deepseek import DEEPSEEK_V3, DEEPSEEK_V31
from kvik.text.parsing.llama3_json import LLAMA3_JSON
from kvik.text.parsing.marked_json import GRANITE, GRANITE_20B, HERMES, JAMBA, LONGCAT, PHI4_MINI
from kvik.text.parsing.mistral import MISTRAL
from kvik.text.parsing.pythonic import LLAMA4_PYTHONIC, PYTHONIC
from kvik.text.parsing.qwen3_xml import QWEN3_XML
from kvik.text.parsing.reasoning import REASONING, ReasoningFormat
from kvik.text.parsing.tool_format import ToolFormat

F = TypeVar("F", ToolFormat, ReasoningFormat)

TOOL_FORMATS: dict[str, ToolFormat] = {
    "deepseek_v3": DEEPSEEK_V3,
    "deepseek_v31": DEEPSEEK_V31,
    "granite": GRANITE,
    "granite-20b-fc": GRANITE_20B,
    "granite4": HERMES,
    "hermes": HERMES,
    "jamba": JAMBA,
    "llama3_json": LLAMA3_JSON,
    "llama4_json": LLAMA3_JSON,
    "llama4_pythonic": LLAMA4_PYTHONIC,
    "longcat": LONGCAT,
    "mistral": MISTRAL,
    "phi4_mini_json": PHI4_MINI,
    "pythonic": PYTHONIC,
    "qwen3_coder": QWEN3_XML,
    "qwen3_json": HERMES,
    "qwen3_xml": QWEN3_XML,
}
"""By the name that --tool-call-parser takes."""


@dataclass(frozen=True, slots=True)
class AnswerFormats:
    """What the answers of a server's model are parsed by; None: not at all."""

    tools: ToolFormat | None = None
    reasoning: ReasoningFormat | None = None


@lru_cache(maxsize=1)
def load_formats(tool: str | None, tool_plugin: str, reasoning: str, reasoning_plugin: str) -> AnswerFormats:
    """The formats of these names; empty names are none. Raises `ConfigError` for a name or a file that is not there."""
    return AnswerFormats(
        _find(tool, TOOL_FORMATS, "tool-call-parser", "kvik.tool_parsers", tool_plugin, "tool-parser-plugin"),
        _find(
            reasoning, REASONING, "reasoning-parser", "kvik.reasoning_parsers", reasoning_plugin,
            "reasoning-parser-plugin",
        ),
    )  # fmt: skip


def _find(name: str | None, own: Mapping[str, F], flag: str, group: str, plugin: str, plugin_flag: str) -> F | None:
    kind = type(next(iter(own.values())))
    dict_name = group.removeprefix("kvik.").upper()
    more: dict[str, F] = _of_file(plugin, plugin_flag, dict_name, kind) if plugin else {}
    if not name:
        return None
    if (found := more.get(name) or own.get(name)) is not None:
        return found
    offered: dict[str, EntryPoint] = {point.name: point for point in entry_points(group=group)}
    if name in offered:
        return _checked(offered[name].load(), kind, f"the entry point {name} in {group}")
    known = ", ".join(sorted({*own, *more, *offered}))
    raise ConfigError(f"--{flag} {name}: there is no such parser; there are {known}; --{plugin_flag} adds more")


def _of_file(path: str, flag: str, dict_name: str, kind: type[F]) -> dict[str, F]:
    try:
        spec = importlib.util.spec_from_file_location(f"kvik_plugin_{Path(path).stem}", Path(path).expanduser())
        if spec is None or spec.loader is None:
            raise ConfigError(f"--{flag} takes a Python file, got {path}")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except ConfigError:
        raise
    except Exception as error:  # the file is a program and may fail in any way
        raise ConfigError(f"--{flag}: {path} cannot be loaded: {type(error).__name__}: {error}") from error
    formats = getattr(module, dict_name, None)
    if not isinstance(formats, dict):
        raise ConfigError(f"--{flag}: {path} must define {dict_name}, a dict from names to {kind.__name__}")
    return {str(name): _checked(value, kind, f"{dict_name}[{name!r}] of {path}") for name, value in formats.items()}


def _checked(value: Any, kind: type[F], where: str) -> F:
    if not isinstance(value, kind):
        raise ConfigError(f"{where} must be a {kind.__name__}, got {type(value).__name__}")
    return value
