"""Which fields become which constraint, and which combinations are refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from kvik.errors import InvalidRequestError
from kvik.server.structured_outputs import ConstraintFields, structured_outputs_of
from kvik.structured_outputs import StructuredOutputs

SCHEMA = {"type": "integer"}
FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}


def of(**fields: Any) -> StructuredOutputs | None:
    return structured_outputs_of(ConstraintFields.model_validate(fields))


@pytest.mark.parametrize(
    ("fields", "kind", "value", "param"),
    [
        ({"response_format": FORMAT}, "json", '{"type": "integer"}',
         "response_format"),
        ({"response_format": {"type": "json_object"}}, "json_object", True, "response_format"),
        ({"structured_outputs": {"json": SCHEMA}}, "json", '{"type": "integer"}', "structured_outputs"),
        ({"structured_outputs": {"json": "{}"}}, "json", "{}", "structured_outputs"),
        ({"structured_outputs": {"choice": ["a"]}, "response_format": {"type": "text"}}, "choice", ["a"],
         "structured_outputs"),
        ({"structured_outputs": {"json": {}}, "response_format": FORMAT}, "json", '{"type": "integer"}',
         "response_format"),
        ({"guided_regex": "a"}, "regex", "a", "guided_regex"),
        ({"guided_choice": ["a"], "guided_decoding_backend": "outlines"}, "choice", ["a"], "guided_choice"),
        ({"guided_grammar": "start: x"}, "grammar", "start: x", "guided_grammar"),
    ],
)  # fmt: skip
def test_a_field_becomes_a_constraint(fields: dict[str, Any], kind: str, value: Any, param: str) -> None:
    made = of(**fields)
    assert made is not None
    assert (made.kind, getattr(made, kind), made.param) == (kind, value, param)


def test_text_and_nothing_are_no_constraint() -> None:
    assert of() is None
    assert of(response_format={"type": "text"}, guided_decoding_backend="auto") is None


def test_options_go_along() -> None:
    made = of(structured_outputs={"json": {}, "disable_any_whitespace": True}, guided_whitespace_pattern=" ")
    assert made is not None
    assert (made.disable_any_whitespace, made.whitespace_pattern) == (True, " ")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"structured_outputs": {}}, "structured_outputs"),
        ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs"),
        ({"guided_regex": "a", "response_format": FORMAT}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format"),
        ({"response_format": {"type": "structural_tag", "triggers": ["<"]}}, "response_format"),
    ],
)
def test_what_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        of(**fields)
    assert refused.value.param == param
