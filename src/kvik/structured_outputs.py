"""What the text of an answer must be: one constraint and its options. Knows no grammar engine and no HTTP.

Crosses the wall inside `SamplingParams`; by then the constraint has been compiled, and only `compiled` is left of it.
"""

from __future__ import annotations

import json as json_codec
from typing import Any

import msgspec

from kvik.errors import InvalidRequestError

KINDS = ("json", "regex", "choice", "grammar", "json_object", "structural_tag")
"""The fields of which exactly one says what is wanted."""


class StructuredOutputs(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Exactly one of `KINDS` is set. Raises `InvalidRequestError` from `__post_init__` otherwise.

    Whether the constraint makes sense is found out where it is compiled (`kvik.grammar`).
    """

    json: str | dict[str, Any] | bool | None = None
    """A JSON schema: its text, or an object, which becomes its text."""
    regex: str | None = None
    """The whole answer matches it."""
    choice: list[str] | None = None
    """The answer is one of these."""
    grammar: str | None = None
    """Lark (with llguidance's `%json {...}` and `%regex {...}`) or GBNF."""
    json_object: bool = False
    """Any JSON object."""
    structural_tag: str | dict[str, Any] | None = None
    """JSON text, or an object, which becomes its text: free text with constrained parts."""

    disable_any_whitespace: bool = False
    """json, json_object: no blanks between tokens."""
    whitespace_pattern: str | None = None
    """json, json_object: a regular expression for the blanks at each place that may have some."""
    disable_additional_properties: bool = False
    """json: objects that list their properties have no others, unless the schema says otherwise."""
    starts_after: list[int] | None = None
    """Token ids, in a row, after which the constraint begins, such as those of `</think>`; None: at once."""

    param: str = "structured_outputs"
    """The request's field that errors name."""
    compiled: str | None = None
    """The constraint in llguidance's own notation, in place of `KINDS`; filled in by the `Processor`."""
    bounds_digits: bool = False
    """Of what has been compiled: numbers of more than 18 digits in a row end, where anything else may follow."""

    def __post_init__(self) -> None:
        for name in ("json", "structural_tag"):
            value = getattr(self, name)
            if isinstance(value, (dict, bool)):
                msgspec.structs.force_setattr(self, name, _text_of(value, name, self.param))
        given = [name for name in KINDS if self._is_given(name)]
        if self.compiled is not None and not given:
            return
        if len(given) != 1:
            raise InvalidRequestError(
                f"{self.param} takes exactly one of {', '.join(KINDS)}, got {' and '.join(given) or 'none of them'}",
                param=self.param,
            )

    @property
    def kind(self) -> str:
        """Which of `KINDS` is set; "compiled" once it has been compiled."""
        return next((name for name in KINDS if self._is_given(name)), "compiled")

    def _is_given(self, name: str) -> bool:
        value = getattr(self, name)
        return value is not None and value is not False


def _text_of(value: dict[str, Any] | bool, name: str, param: str) -> str:
    try:
        return json_codec.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequestError(f"{name} must be a JSON schema or its text: {error}", param=param) from None


_MAX_INTEGER = 10**18
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "enum", "const")


def with_bounded_integer(schema: dict[str, Any]) -> dict[str, Any]:
    """A JSON schema whose integer, if it is one without any bounds, has at most 18 digits and a 1 before them.

    A small model that has begun to write zeros goes on, and an answer is to end by itself.
    """
    if schema.get("type") != "integer" or any(name in schema for name in _BOUNDS):
        return schema
    return schema | {"minimum": -_MAX_INTEGER, "maximum": _MAX_INTEGER}
