"""Structural tags: free text in which a trigger starts a part with a grammar of its own. As Lark text.

The legacy form is {"structures": [{"begin", "schema", "end"}, ...], "triggers": [...]}; the newer one is
{"format": {...}} with a tree of formats. Knows no request.
"""

from __future__ import annotations

from typing import Any

from kvik.config.structured_outputs import GrammarLimits
from kvik.errors import InvalidRequestError
from kvik.grammar.json_schema import json_rule, parse_json
from kvik.grammar.lark import HEADER, client_grammar, quoted, regex_terminal
from kvik.structured_outputs import StructuredOutputs

_FORMATS = (
    "any_text", "const_string", "grammar", "json_schema", "or", "regex", "sequence", "tag", "tags_with_separator",
    "triggered_tags",
)  # fmt: skip


def structural_tag_grammar(asked: StructuredOutputs, limits: GrammarLimits) -> str:
    """Raises `InvalidRequestError` naming the part that is wrong."""
    assert isinstance(asked.structural_tag, str)
    tag = parse_json(asked.structural_tag, "the structural tag", asked.param, limits)
    writer = _Writer(asked, limits)
    if not isinstance(tag, dict):
        raise writer.error("the structural tag", "must be an object")
    if "structures" in tag:
        body = writer.legacy(tag)
    elif "format" in tag:
        body = writer.format(tag["format"], "format")
    else:
        raise writer.error("the structural tag", "needs 'format', or 'structures' and 'triggers'")
    return writer.grammar(body)


class _Writer:
    """Collects rules; every method returns what stands for its part in another rule."""

    def __init__(self, asked: StructuredOutputs, limits: GrammarLimits) -> None:
        self._asked = asked
        self._limits = limits
        self._rules: list[str] = []

    def grammar(self, body: str) -> str:
        return "\n".join([HEADER.rstrip(), f"start: {body}", *self._rules, "TEXT: /(?s:.*)/", ""])

    def error(self, where: str, problem: str) -> InvalidRequestError:
        return InvalidRequestError(f"{where} {problem}", param=self._asked.param)

    def legacy(self, tag: dict[str, Any]) -> str:
        structures = self._list(tag, "structures", "the structural tag")
        tags = [_as_tag(structure) for structure in structures]
        return self._triggered_tags({"triggers": tag.get("triggers"), "tags": tags}, "structures")

    def format(self, spec: Any, where: str) -> str:
        if not isinstance(spec, dict) or spec.get("type") not in _FORMATS:
            raise self.error(where, f"must be an object whose 'type' is one of {', '.join(_FORMATS)}")
        part: str = getattr(self, f"_{spec['type']}")(spec, where)
        return part

    # --- formats ------------------------------------------------------------------------------------

    def _any_text(self, spec: dict[str, Any], where: str) -> str:
        return "TEXT"

    def _const_string(self, spec: dict[str, Any], where: str) -> str:
        return quoted(self._text(spec, "value", where))

    def _json_schema(self, spec: dict[str, Any], where: str) -> str:
        schema = spec.get("json_schema")
        if schema is None:
            raise self.error(where, "needs 'json_schema', a JSON schema")
        return self._rule(json_rule(schema, self._asked, self._limits))

    def _regex(self, spec: dict[str, Any], where: str) -> str:
        return self._rule(regex_terminal(self._text(spec, "pattern", where)))

    def _grammar(self, spec: dict[str, Any], where: str) -> str:
        grammar = client_grammar(self._text(spec, "grammar", where), self._limits, self._asked.param)
        return self._rule("%lark {\n" + grammar + "\n}")

    def _sequence(self, spec: dict[str, Any], where: str) -> str:
        parts = self._list(spec, "elements", where)
        return "(" + " ".join(self.format(p, f"{where}.elements.{i}") for i, p in enumerate(parts)) + ")"

    def _or(self, spec: dict[str, Any], where: str) -> str:
        parts = self._list(spec, "elements", where)
        return "(" + " | ".join(self.format(p, f"{where}.elements.{i}") for i, p in enumerate(parts)) + ")"

    def _tag(self, spec: dict[str, Any], where: str, trigger: str = "") -> str:
        """`trigger`: what of `begin` has been written already."""
        begin, ends = self._text(spec, "begin", where), spec.get("end")
        ends = [ends] if isinstance(ends, str) else ends
        if not isinstance(ends, list) or not ends or not all(isinstance(end, str) for end in ends):
            raise self.error(where, "needs 'end', a string or a list of strings")
        content = spec.get("content")
        end = self._rule(" | ".join(quoted(e) if e else '""' for e in ends))
        head = quoted(begin.removeprefix(trigger)) if begin != trigger else ""
        if isinstance(content, dict) and content.get("type") == "any_text":
            if not all(ends):
                raise self.error(where, "has free text as content and an empty 'end': where would it end?")
            return f"({head} {self._until(ends)})"
        return f"({head} {self.format(content, where + '.content')} {end})"

    def _triggered_tags(self, spec: dict[str, Any], where: str) -> str:
        triggers, tags = self._list(spec, "triggers", where), self._list(spec, "tags", where)
        if not all(isinstance(t, str) and t for t in triggers):
            raise self.error(where, "needs 'triggers', a list of strings that are not empty")
        branches: dict[str, list[str]] = {trigger: [] for trigger in triggers}
        for index, tag in enumerate(tags):
            if not isinstance(tag, dict):
                raise self.error(f"{where}.{index}", "must be an object with 'begin', content and 'end'")
            begin = self._text(tag, "begin", f"{where}.{index}")
            trigger = next((t for t in triggers if begin.startswith(t)), None)
            if trigger is None:
                raise self.error(f"{where}.{index}", f"begins with {begin!r}, which none of the triggers starts")
            branches[trigger].append(self._tag(tag, f"{where}.{index}", trigger))
        calls = [f"{self._until([t])} ({' | '.join(parts)})" for t, parts in branches.items() if parts]
        if spec.get("stop_after_first"):
            return f"({' | '.join(calls)}{'' if spec.get('at_least_one') else ' | TEXT'})"
        return f"(({' | '.join(calls)}){'+' if spec.get('at_least_one') else '*'} TEXT)"

    def _tags_with_separator(self, spec: dict[str, Any], where: str) -> str:
        tags, separator = self._list(spec, "tags", where), quoted(self._text(spec, "separator", where))
        if not all(isinstance(tag, dict) for tag in tags):
            raise self.error(where, "needs 'tags', a list of objects")
        one = self._rule(" | ".join(self._tag(tag, f"{where}.tags.{i}") for i, tag in enumerate(tags)))
        many = one if spec.get("stop_after_first") else f"{one} ({separator} {one})*"
        return f"({many})" if spec.get("at_least_one") else f"({many})?"

    # --- parts --------------------------------------------------------------------------------------

    def _rule(self, body: str) -> str:
        name = f"part_{len(self._rules)}"
        self._rules.append(f"{name}: {body}")
        return name

    def _until(self, ends: list[str]) -> str:
        """Text up to the first of `ends`, that included."""
        name = f"part_{len(self._rules)}"
        self._rules.append(f"{name}[lazy]: TEXT ({' | '.join(map(quoted, ends))})")
        return name

    def _text(self, spec: dict[str, Any], key: str, where: str) -> str:
        value = spec.get(key)
        if not isinstance(value, str):
            raise self.error(where, f"needs {key!r}, a string")
        return value

    def _list(self, spec: dict[str, Any], key: str, where: str) -> list[Any]:
        value = spec.get(key)
        if not isinstance(value, list) or not value:
            raise self.error(where, f"needs {key!r}, a list that is not empty")
        return value


def _as_tag(structure: Any) -> Any:
    """One of the legacy form's structures in the words of the newer one."""
    if not isinstance(structure, dict):
        return structure
    content = {"type": "json_schema", "json_schema": structure.get("schema")}
    return {"begin": structure.get("begin"), "content": content, "end": structure.get("end")}
