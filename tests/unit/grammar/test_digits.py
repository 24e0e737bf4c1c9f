"""Numbers end, wherever the schema lets them; what the schema needs is never ruled out."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvik.grammar.constraint import Constraint
from kvik.grammar.numbers import MAX_DIGITS, NumberState
from unit.grammar.conftest import MakeConstraint


def is_allowed(constraint: Constraint, byte: int) -> bool:
    masks = constraint.masks()
    assert masks is not None
    return bool(masks[0][byte // 32] >> byte % 32 & 1)


def follow(constraint: Constraint, text: bytes) -> int:
    """How many bytes of `text` are allowed."""
    for place, byte in enumerate(text):
        if not is_allowed(constraint, byte):
            return place
        assert constraint.advance(byte)
    return len(text)


NUMBER = {"type": "number"}
POSITIVE = {"type": "number", "minimum": 0}
ANY_OBJECT = {"type": "object"}


@pytest.mark.parametrize(
    ("schema", "begin", "most"),
    [
        (NUMBER, b"0.", 18), (NUMBER, b"-", 18), (NUMBER, b"1.5e-", 3), (NUMBER, b"2E", 3), (NUMBER, b"0.25e+", 3),
        (POSITIVE, b"3.", 18), ({"type": "number", "maximum": 7}, b"-5.", 18), ({}, b"[true,1.", 18),
        (ANY_OBJECT, b'{"a\\"1":-', 18), (ANY_OBJECT, b'{"a":[1e9,2e', 3),
    ],
)  # fmt: skip
def test_digits_in_a_row_are_bounded(constrain: MakeConstraint, schema: Any, begin: bytes, most: int) -> None:
    constraint = constrain(json=schema)
    assert follow(constraint, begin) == len(begin)
    assert follow(constraint, b"3" * 40) == most


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"const": 0.00012345678901234567}, b"0.00012345678901234567"),
        ({"type": "string"}, b'"' + b"7" * 60 + b'"'),
        ({"type": "string", "pattern": "^[0-9]{30}$"}, b'"' + b"7" * 30 + b'"'),
        ({"type": "number", "multipleOf": 0.01}, b"123.45"),
        (ANY_OBJECT, b'{"\\\\":6.02e23,"' + b"1" * 30 + b'":"' + b"2" * 30 + b'"}'),
    ],
)
def test_what_the_schema_says_stays(constrain: MakeConstraint, schema: Any, text: bytes) -> None:
    constraint = constrain(json=schema)
    assert follow(constraint, text) == len(text)


def test_a_regular_expression_may_have_any_digits(constrain: MakeConstraint) -> None:
    assert follow(constrain(regex="[0-9.]*"), b"0." + b"3" * 40) == 42


def test_guesses_are_counted_and_leave_no_trace(constrain: MakeConstraint) -> None:
    constraint = constrain(json=NUMBER)
    follow(constraint, b"0." + b"3" * (MAX_DIGITS - 2))
    masks = constraint.masks([ord("3")] * 3)
    assert [bool(mask[ord("3") // 32] >> ord("3") % 32 & 1) for mask in masks[:3]] == [True, True, False]
    assert follow(constraint, b"3333") == 2


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text('"\\1e\n9', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('"\\1e', max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(value=VALUES, indent=st.sampled_from([None, 1]), cuts=st.lists(st.integers(0, 200), max_size=5))
def test_cuts_do_not_matter_and_strings_are_no_numbers(value: object, indent: int | None, cuts: list[int]) -> None:
    text = json.dumps(value, indent=indent).encode()
    whole, state, places = NumberState().after(text), NumberState(), [0, *sorted(cuts), len(text)]
    for begin, end in pairwise(places):
        state = state.after(text[begin:end]) if begin < end else state
    assert state == whole
    assert not whole.is_string
    digits = re.search(rb"[0-9]*\Z", text)
    assert digits is not None
    assert whole.num_digits == len(digits[0])
