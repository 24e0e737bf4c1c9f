from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvik.config.flags import Flag
from kvik.config.values import AUTO, from_yaml, parse_size, parse_word
from kvik.errors import ConfigError


def flag(kind: Any, choices: tuple[str, ...] = ()) -> Flag:
    return Flag("x", kind, None, "", "", choices=choices)


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("-1", -1), ("1k", 1000), ("1K", 1024), ("25.6k", 25600), ("2m", 2_000_000), ("2M", 2 * 1024**2),
     ("1g", 10**9), ("1G", 2**30), ("1t", 10**12), ("1T", 2**40), ("0.5k", 500), ("-1.5k", -1500)],
)  # fmt: skip
def test_sizes(text: str, value: int) -> None:
    assert parse_size(text) == value


@pytest.mark.parametrize("text", ["1.5K", "1.5", "1.0005k", "k", "", "1kb", "1e3", "0x10", "1 k", "auto"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match=r"integer|decimals|whole"):
        parse_size(text)


@given(st.integers(-(10**9), 10**9), st.integers(0, 999), st.sampled_from("kmgt"))
def test_decimals_agree_with_decimal_arithmetic(whole: int, thousandths: int, suffix: str) -> None:
    text = f"{whole}.{thousandths:03d}"
    assert parse_size(text + suffix) == Decimal(text) * 1000 ** ("kmgt".index(suffix) + 1)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [("size_or_auto", "auto", AUTO), ("size_or_auto", "-1", AUTO), ("size_or_auto", "8k", 8000), ("int", "8", 8),
     ("float", ".5", 0.5), ("float_or_auto", "12.5", 12.5),
     ("float_or_auto", "Auto", AUTO), ("bool", "True", True), ("str", "8", "8"), ("json", '{"a": [1]}', {"a": [1]}),
     ("json_or_str", "plain", "plain"), ("json_or_str", '{"a": 1}', {"a": 1}), ("json_list", '["a"]', ("a",))],
)  # fmt: skip
def test_words(kind: str, text: str, value: object) -> None:
    assert parse_word(flag(kind), text) == value


@pytest.mark.parametrize(
    ("kind", "text", "accepted"),
    [("int", "8k", "an integer"), ("int", "8.0", "an integer"), ("float", "x", "a number"),
     ("float_or_auto", "x", "a number or auto"), ("bool", "1", "true"),
     ("json", "{a}", "JSON"), ("json_list", '{"a": 1}', "a JSON list"), ("json_list", "[1]", "a JSON list")],
)  # fmt: skip
def test_bad_words_name_flag_value_and_what_is_right(kind: str, text: str, accepted: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_word(flag(kind), text)
    message = str(caught.value)
    assert message.startswith(f"--x takes {accepted}")
    assert repr(text) in message


def test_choices() -> None:
    assert parse_word(flag("str", ("a", "b")), "b") == "b"
    with pytest.raises(ConfigError, match="one of a, b, got 'c'"):
        parse_word(flag("str", ("a", "b")), "c")


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [("bool", True, True), ("bool", "false", False), ("int", 8, 8), ("size", "8k", 8000), ("list", ["a"], ("a",)),
     ("list", "a", ("a",)), ("int_list", [1, 2], (1, 2)), ("json", {"a": 1}, {"a": 1}), ("json_list", ["a"], ("a",)),
     ("str", 8, "8"), ("float", 1, 1.0)],
)  # fmt: skip
def test_values_of_yaml(kind: str, value: object, expected: object) -> None:
    assert from_yaml(flag(kind), value) == expected


@pytest.mark.parametrize(("kind", "value"), [("int", [1]), ("str", {"a": 1}), ("int", True), ("bool", 1)])
def test_values_of_yaml_that_do_not_fit(kind: str, value: object) -> None:
    with pytest.raises(ConfigError, match="--x takes"):
        from_yaml(flag(kind), value)
