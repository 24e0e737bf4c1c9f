"""Some hundred JSON schemas of many kinds, always the same ones, and a walk through the texts that a grammar allows."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from kvik.grammar.constraint import Constraint

Schema = dict[str, Any]
VOCABULARY = [
    *(bytes([byte]) for byte in range(256)),
    *(
        word.encode()
        for word in ('{"', '":', '": ', '",', '"}', "[]", "{}", "true", "false", "null", "name", "é", "日本", "ab", "ä")
    ),
]
"""Tokens of a small model: bytes, and what JSON often has."""
_CLOSERS = [VOCABULARY.index(token) for token in (b'"', b"}", b"]", b"ab", "ä".encode(), b"0")]


def numbers() -> Iterator[Schema]:
    for kind, low, high in product(("integer", "number"), (None, -7, 0, 3), (None, 3, 12, 1000)):
        if low is not None and high is not None and low > high:
            continue
        bounds = {k: v for k, v in (("minimum", low), ("maximum", high)) if v is not None}
        yield {"type": kind, **bounds}
    for kind in ("integer", "number"):
        yield {"type": kind, "exclusiveMinimum": 0, "exclusiveMaximum": 5}
        yield {"type": kind, "minimum": -2.5, "maximum": 2.5}
    yield from ({"type": "integer", "multipleOf": m, "minimum": 0, "maximum": 100} for m in (2, 5, 7, 10))
    yield {"type": "number", "multipleOf": 0.5}
    yield {"type": "integer", "minimum": 10, "maximum": 3}  # nothing satisfies it


def strings() -> Iterator[Schema]:
    for low, high in product((0, 1, 5), (5, 8, 30)):
        yield {"type": "string", "minLength": low, "maxLength": high}
    patterns = (
        "^[a-z]+$", "^[A-Z]{2}-[0-9]{4}$", "ab", "^(yes|no)$", r"^\d{3}$", r"^\w+@\w+\.com$", "^$", "[äöü]", "^.{3}$",
        "^(?:a|b)*$", r"^\$\d+\.\d{2}$", "^#[0-9a-f]{6}$", "(?=x)", "(", r"^[^\s]+$", r"^\/path\/",
    )  # fmt: skip
    yield from ({"type": "string", "pattern": pattern} for pattern in patterns)
    formats = (
        "date", "time", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri", "regex", "nope",
    )  # fmt: skip
    yield from ({"type": "string", "format": name} for name in formats)
    yield {"type": "string", "pattern": "^[a-z]*$", "minLength": 2, "maxLength": 4}


def arrays() -> Iterator[Schema]:
    items: tuple[Schema, ...] = (
        {"type": "integer"},
        {"type": "string", "maxLength": 5},
        {"type": "boolean"},
        {"type": "null"},
    )
    for item, low, high in product(items, (0, 1, 3), (3, 5)):
        yield {"type": "array", "items": item, "minItems": low, "maxItems": high}
    yield {"type": "array", "prefixItems": list(items), "items": False}
    yield {"type": "array", "prefixItems": list(items[:2]), "minItems": 2}
    yield {"type": "array", "items": {"type": "array", "items": items[0], "maxItems": 2}, "maxItems": 3}
    yield {"type": "array", "uniqueItems": True}
    yield {"type": "array", "contains": {"type": "integer"}}
    yield {"type": "array", "minItems": 4, "maxItems": 2}


def objects() -> Iterator[Schema]:
    parts: tuple[Schema, ...] = (
        {"type": "integer"}, {"type": "string", "maxLength": 6}, {"type": "boolean"}, {"enum": ["a", 1, None]},
        {"type": ["string", "null"], "maxLength": 3}, {"type": "array", "items": {"type": "integer"}, "maxItems": 2},
        {"type": "object", "properties": {"z": {"type": "integer"}}, "required": ["z"]},
    )  # fmt: skip
    for (i, a), (j, b) in product(enumerate(parts), enumerate(parts)):
        schema: Schema = {"type": "object", "properties": {"a": a, "b": b}, "required": ["a", "b"][: 1 + (i + j) % 2]}
        if (i + j) % 3:
            schema["additionalProperties"] = False
        yield schema
    names = ("naïve", "日本", "with space", 'quo"te', "back\\slash", "tab\t", "emoji🙂", "", "$ref", "a/b", "new\nline")
    for name in names:
        yield {"type": "object", "properties": {name: {"type": "integer"}}, "required": [name]}
    for value in ({"type": "integer"}, {"type": "string", "maxLength": 4}, True, False):
        yield {"type": "object", "additionalProperties": value}
    yield {"type": "object", "patternProperties": {"^x_": {"type": "integer"}}, "additionalProperties": False}
    yield {"type": "object", "required": ["free"]}
    yield from ({"type": "object", "minProperties": n} for n in (1, 2))
    yield {"type": "object", "maxProperties": 0}
    yield {"type": "object", "propertyNames": {"pattern": "^a"}}
    yield {"type": "object", "dependentRequired": {"a": ["b"]}}
    yield {"type": "object", "properties": 3}
    deep: Schema = {"type": "integer"}
    for _ in range(12):
        deep = {"type": "object", "properties": {"in": deep}, "required": ["in"], "additionalProperties": False}
    yield deep


def combinations() -> Iterator[Schema]:
    parts: tuple[Schema, ...] = (
        {"type": "integer", "minimum": 0}, {"type": "string", "maxLength": 4}, {"type": "null"}, {"const": "x"},
        {"type": "object", "properties": {"k": {"const": 1}}, "required": ["k"], "additionalProperties": False},
    )  # fmt: skip
    for key, a, b in product(("anyOf", "oneOf", "allOf"), parts, parts):
        if a is not b:
            yield {key: [a, b]}
    yield {"allOf": [{"type": "integer", "minimum": 2}, {"maximum": 9}]}
    yield {"allOf": [{"properties": {"a": {"type": "integer"}}}, {"required": ["a"]}], "type": "object"}
    yield {"anyOf": [], "type": "integer"}
    yield {"not": {"type": "string"}}
    yield {"if": {"type": "integer"}, "then": {"minimum": 3}}


def values() -> Iterator[Schema]:
    constants: tuple[Any, ...] = (
        1, -2.5, 1e3, "text", "é\n\"", True, None, [], [1, "a", None], {}, {"a": {"b": [1]}}, "", 0, "日本",
    )  # fmt: skip
    yield from ({"const": value} for value in constants)
    yield from ({"enum": list(constants[: n + 1])} for n in range(len(constants)))
    yield from ({"type": kind} for kind in ("integer", "number", "boolean", "null", "nope"))
    yield {"enum": []}
    yield {"type": "string", "enum": ["a", 1]}


def references() -> Iterator[Schema]:
    node = {
        "type": "object",
        "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
        "required": ["next"],
    }
    yield {"$ref": "#/$defs/node", "$defs": {"node": node}}
    tree = {
        "type": "object",
        "properties": {"kids": {"type": "array", "items": {"$ref": "#"}, "maxItems": 2}},
        "required": ["kids"],
    }
    yield tree
    for kind in ("integer", "boolean", "null"):
        for place in ("$defs", "definitions"):
            yield {
                "type": "object", "properties": {"v": {"$ref": f"#/{place}/v"}}, "required": ["v"],
                place: {"v": {"type": kind}},
            }  # fmt: skip
    yield {"$ref": "#/$defs/missing"}
    yield {"$ref": "http://127.0.0.1:1/schema.json"}
    yield {"$ref": "#"}
    yield {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}


def realistic() -> Iterator[Schema]:
    text = {"type": "string", "maxLength": 8}
    for n in range(1, 25):
        fields: Schema = {
            f"field_{i}": [text, {"type": "integer"}, {"type": "boolean"}, {"enum": ["low", "high"]}][i % 4]
            for i in range(n)
        }
        yield {
            "$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"Form {n}", "description": "A form.",
            "type": "object", "properties": fields, "required": list(fields)[: n // 2 + 1],
            "additionalProperties": False,
        }  # fmt: skip
    step = {
        "type": "object",
        "properties": {"explanation": text, "output": text},
        "required": ["explanation", "output"],
        "additionalProperties": False,
    }
    yield {
        "type": "object",
        "properties": {"steps": {"type": "array", "items": step, "maxItems": 3}, "final_answer": text},
        "required": ["steps", "final_answer"], "additionalProperties": False,
    }  # fmt: skip


def all_schemas() -> list[Schema]:
    """In a fixed order."""
    return [
        *numbers(), *strings(), *arrays(), *objects(), *combinations(), *values(), *references(), *realistic(),
    ]  # fmt: skip


def walk(constraint: Constraint, seed: int, max_tokens: int = 400, num_free: int = 25) -> bytes:
    """A text that the masks allow: `num_free` tokens at random, then such as bring an end, until there is one.

    Raises AssertionError where the grammar allows nothing, or does not end.
    """
    rng = random.Random(seed)
    text, end = b"", len(VOCABULARY)
    for step in range(max_tokens):
        masks = constraint.masks()
        assert masks is not None
        allowed = np.flatnonzero(np.unpackbits(masks[0].view(np.uint8), bitorder="little")).tolist()
        assert allowed, (text, constraint.error)
        closers = [i for i in _CLOSERS if i in allowed] if step >= num_free else []
        if end in allowed and (step >= num_free or rng.random() < 0.3 or allowed == [end]):
            return text
        if closers and closers[0] != _CLOSERS[0] and rng.random() < 0.3:
            closers = []  # some strings need other characters first
        chosen = closers[0] if _CLOSERS[0] in closers else rng.choice(closers or [i for i in allowed if i != end])
        assert constraint.advance(chosen), constraint.error
        text += VOCABULARY[chosen]
        if constraint.is_complete:
            return text
    raise AssertionError(f"no end within {max_tokens} tokens: {text!r}")
