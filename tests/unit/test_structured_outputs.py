"""Integers that a schema leaves open end by themselves; those that it bounds keep its bounds."""

from __future__ import annotations

from typing import Any

import pytest

from kvik.structured_outputs import with_bounded_integer


def test_an_open_integer_gets_bounds_and_the_callers_schema_stays() -> None:
    schema = {"type": "integer", "title": "n"}
    assert with_bounded_integer(schema) == {"type": "integer", "title": "n", "minimum": -(10**18), "maximum": 10**18}
    assert schema == {"type": "integer", "title": "n"}


@pytest.mark.parametrize(
    "schema", [{"type": "integer", "minimum": 5}, {"type": "integer", "enum": [1]}, {"type": "string"}, {}]
)
def test_others_stay_as_they_are(schema: dict[str, Any]) -> None:
    assert with_bounded_integer(schema) is schema
