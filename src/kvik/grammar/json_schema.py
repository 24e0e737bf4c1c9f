"""JSON schemas: size, depth and the few keywords that need care, then llguidance's notation. Knows no request.

Whitespace is bounded at each place that may have some, so that no model can fill an answer with blanks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from kvik.config.structured_outputs import GrammarLimits
from kvik.errors import InvalidRequestError
from kvik.grammar.lark import HEADER
from kvik.structured_outputs import StructuredOutputs, with_bounded_integer

BOUNDED_WHITESPACE = r"[ \t]{1,8}|\r?\n[ \t]{0,16}"
"""A few blanks, or one line break and an indent."""

_MAPS_OF_SCHEMAS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTS_OF_SCHEMAS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SCHEMAS = ("items", "additionalProperties", "additionalItems", "not", "if", "then", "else", "contains")


def json_grammar(asked: StructuredOutputs, limits: GrammarLimits) -> str:
    """llguidance's notation of a `json` or `json_object` constraint. Raises `InvalidRequestError` saying where."""
    if asked.json is None:
        schema: Any = {"type": "object"}
    else:
        assert isinstance(asked.json, str)
        schema = parse_json(asked.json, "the JSON schema", asked.param, limits)
    return f"{HEADER}start: {json_rule(schema, asked, limits)}\n"


def json_rule(schema: Any, asked: StructuredOutputs, limits: GrammarLimits) -> str:
    """What stands for a schema in a Lark rule."""
    schema = checked_schema(schema, asked, limits)
    blanks: dict[str, Any] = {"whitespace_pattern": asked.whitespace_pattern or BOUNDED_WHITESPACE}
    if asked.disable_any_whitespace:
        blanks = {"whitespace_flexible": False}
    given = schema.get("x-guidance")
    schema = schema | {"x-guidance": (given if isinstance(given, dict) else {}) | blanks}
    return f"%json {json.dumps(schema, ensure_ascii=False)}"


def parse_json(text: str, what: str, param: str, limits: GrammarLimits) -> Any:
    """The value of a JSON text of at most --max-schema-bytes. Raises `InvalidRequestError`."""
    num_bytes = len(text.encode(errors="surrogatepass"))
    if num_bytes > limits.max_schema_bytes:
        raise InvalidRequestError(
            f"{what} has {num_bytes} bytes, at most {limits.max_schema_bytes} are allowed (--max-schema-bytes)",
            param=param,
        )
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise InvalidRequestError(_too_deep(what, limits), param=param) from None
    except ValueError as error:
        raise InvalidRequestError(f"{what} is not JSON: {error}", param=param) from None


def checked_schema(schema: Any, asked: StructuredOutputs, limits: GrammarLimits) -> dict[str, Any]:
    """The schema, with `disable_additional_properties` and bounds of integers. Raises `InvalidRequestError`."""
    if not isinstance(schema, (dict, bool)):
        raise InvalidRequestError(
            f"a JSON schema must be an object, true or false, got {type(schema).__name__}", param=asked.param
        )
    if schema is False:
        raise InvalidRequestError("the JSON schema is false, which nothing satisfies", param=asked.param)
    if schema is True:
        return {}
    _check_size(schema, asked.param, limits)
    for path, part in _walk(schema):
        _check_property_counts(path, part, asked.param)
        if asked.disable_additional_properties and "properties" in part:
            part.setdefault("additionalProperties", False)
        part.update(with_bounded_integer(part))
    return schema


def _check_size(schema: Any, param: str, limits: GrammarLimits) -> None:
    """Level by level, so that no depth can exhaust the interpreter's stack."""
    level, num_nodes = [schema], 0
    for _ in range(limits.max_schema_depth + 1):
        num_nodes += len(level)
        if num_nodes > limits.max_schema_nodes:
            raise InvalidRequestError(
                f"the JSON schema holds more than {limits.max_schema_nodes} values (--max-schema-nodes)", param=param
            )
        level = [child for node in level for child in _children(node)]
        if not level:
            return
    raise InvalidRequestError(_too_deep("the JSON schema", limits), param=param)


def _children(node: Any) -> list[Any]:
    if isinstance(node, dict):
        return list(node.values())
    return node if isinstance(node, list) else []


def _too_deep(what: str, limits: GrammarLimits) -> str:
    return f"{what} is nested deeper than {limits.max_schema_depth} levels (--max-schema-depth)"


def _walk(schema: Any, path: str = "#") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every subschema that is an object, with its JSON pointer. `const` and `enum` hold values, not schemas."""
    if not isinstance(schema, dict):
        return
    yield path, schema
    for key in _MAPS_OF_SCHEMAS:
        if isinstance(schema.get(key), dict):
            for name, part in schema[key].items():
                yield from _walk(part, f"{path}/{key}/{name}")
    for key in _LISTS_OF_SCHEMAS:
        if isinstance(schema.get(key), list):
            for index, part in enumerate(schema[key]):
                yield from _walk(part, f"{path}/{key}/{index}")
    for key in _SCHEMAS:
        yield from _walk(schema.get(key), f"{path}/{key}")


def _check_property_counts(path: str, schema: dict[str, Any], param: str) -> None:
    """The grammar counts keys as they are written, and free keys may repeat: more than one cannot be promised."""
    least = schema.get("minProperties")
    if isinstance(least, int) and least > 1 and least > len(schema.get("required", ())):
        raise InvalidRequestError(
            f"{path}: minProperties {least} cannot be kept: keys that are not required may repeat in the text; list "
            "them in 'required'",
            param=param,
        )


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")
