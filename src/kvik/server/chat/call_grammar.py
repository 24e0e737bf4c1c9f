"""Calls that must be made -> a grammar in llguidance's Lark dialect. Knows schemas and markup, no engine.

The envelope is fixed text, one way to write it, so that it costs no choices; the arguments follow the tool's schema,
`strict` or not, without blanks that nobody bounds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from kvik.server.chat.tools import Tool
from kvik.structured_outputs import with_bounded_integer
from kvik.text.parsing.reasoning import ReasoningFormat
from kvik.text.parsing.tool_format import CallMarkup, ToolFormat

MAX_PARALLEL_CALLS = 16
_OPENS = frozenset({
    "additionalProperties", "unevaluatedProperties", "patternProperties", "allOf", "anyOf", "oneOf", "$ref", "not",
    "if", "dependentSchemas",
})  # fmt: skip
"""Keywords that speak of other properties, or may."""
_COMPACT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


def call_grammar(
    markup: CallMarkup,
    tools: Sequence[Tool],
    is_parallel: bool,
    special_ids: Mapping[str, int],
    reasoning: ReasoningFormat | None = None,
) -> str:
    """At least one call of one of `tools`, in this markup, and nothing else.

    `special_ids`: tokens that are no text to the grammar, which must name them by id. With `reasoning` the answer may
    begin with it.
    """
    spell = _Speller(special_ids)
    calls = [spell(markup.begin), "call", spell(markup.end)]
    if is_parallel:
        calls.insert(2, f"({_row(spell(markup.between), 'call')}){{0,{MAX_PARALLEL_CALLS - 1}}}")
    rules = [
        f"start: {'think ' if reasoning else ''}{_row(*calls)}",
        f"call: {' | '.join(f'call_{i}' for i in range(len(tools)))}",
    ]
    if reasoning is not None:
        rules += _reasoning_rules(reasoning, spell)
    for i, tool in enumerate(tools):
        head = spell(markup.before_name + tool.name + markup.before_arguments)
        rules.append(f"call_{i}: {_row(head, f'arguments_{i}', spell(markup.after))}")
        rules.append(f"arguments_{i}: {_arguments(tool.parameters)}")
    return "\n".join(rules) + "\n"


def arguments_grammar(tool: Tool, special_ids: Mapping[str, int], reasoning: ReasoningFormat | None = None) -> str:
    """The arguments of a call of `tool` and nothing else."""
    rules = [f"start: {'think ' if reasoning else ''}arguments", f"arguments: {_arguments(tool.parameters)}"]
    if reasoning is not None:
        rules += _reasoning_rules(reasoning, _Speller(special_ids))
    return "\n".join(rules) + "\n"


def _arguments(schema: Mapping[str, Any]) -> str:
    return "%json " + json.dumps({**closed(schema), "x-guidance": _COMPACT})


def strict_calls(own: ToolFormat, tools: Sequence[Tool], level: str) -> dict[str, Any] | None:
    """A structural tag: free text, but calls within it keep to names and schemas; None where nothing asks for that.

    `level` is --tool-strict-level: "auto" enforces the arguments of tools with `strict`, "function" names too,
    "parameter" all arguments.
    """
    if own.markup is None or (level == "auto" and not any(tool.is_strict for tool in tools)):
        return None
    markup = own.markup
    trigger = next(marker for marker in own.markers if markup.before_name.startswith(marker))
    structures = [
        {
            "begin": markup.before_name + tool.name + markup.before_arguments,
            "schema": closed(tool.parameters) if tool.is_strict or level == "parameter" else {"type": "object"},
            "end": markup.after,
        }
        for tool in tools
    ]
    return {"structures": structures, "triggers": [trigger]}


def closed(schema: Any) -> Any:
    """The schema without properties that it does not list, unless it says that there may be some, nor endless digits.

    A function takes the parameters that it has, and a small model that may invent some goes on inventing.
    """
    if not isinstance(schema, Mapping):
        return schema
    found = dict(schema)
    for name in ("properties", "$defs", "definitions"):
        if isinstance(inner := found.get(name), dict):
            found[name] = {key: closed(value) for key, value in inner.items()}
    if isinstance(found.get("items"), dict):
        found["items"] = closed(found["items"])
    if "properties" in found and _OPENS.isdisjoint(found):
        found["additionalProperties"] = False
    return with_bounded_integer(found)


def _reasoning_rules(reasoning: ReasoningFormat, spell: _Speller) -> list[str]:
    """An optional stretch of reasoning. Where its end is no special token, the first such text ends it."""
    rules = []
    bodies = []
    for i, end in enumerate(reasoning.ends):
        if end in spell.special_ids:
            rules.append(f"body_{i}: /(?s:.*)/ {spell(end)}")
        else:
            rules.append(f"body_{i}[suffix={json.dumps(end)}]: /(?s:.*)/")
        bodies.append(f"body_{i}")
    starts = " | ".join(spell(start) for start in reasoning.starts)
    return [f"think: (({starts}) ({' | '.join(bodies)}) /\\n{{0,4}}/)?", *rules]


class _Speller:
    """Writes text as terminals of Lark."""

    def __init__(self, special_ids: Mapping[str, int]) -> None:
        self.special_ids = special_ids
        self._pattern = re.compile("(" + "|".join(map(re.escape, special_ids)) + ")")

    def __call__(self, text: str) -> str:
        pieces = self._pattern.split(text) if self.special_ids else [text]
        return _row(*(self._piece(piece) for piece in pieces if piece))

    def _piece(self, piece: str) -> str:
        return f"<[{self.special_ids[piece]}]>" if piece in self.special_ids else json.dumps(piece, ensure_ascii=False)


def _row(*items: str) -> str:
    return " ".join(item for item in items if item)
