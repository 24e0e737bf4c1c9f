"""How large a value an operation of a template may make: estimated from above before it is made. Knows no template.

A string that doubles forty times would fill the memory between two looks at the clock. So whatever can make a value
that is larger than what it is made of is asked first: operators, filters, methods of strings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from string import Formatter
from typing import Any

MAX_VALUE_LENGTH = 1 << 24
"""Characters or elements of one value."""
MAX_INT_BITS = 1 << 16
MAX_COUNT = 1 << 16
"""Of a filter's or method's number: a width, a count."""

_WIDE_PERCENT = re.compile(r"%[^a-zA-Z%]*(?:\d{5}|\*)")
_WIDE_SPEC = re.compile(r"\d{5}|[{}]")
_GROWING_METHODS = frozenset({"center", "ljust", "rjust", "zfill", "expandtabs", "replace", "join", "translate"})
_TAKE_ANY_NUMBER = frozenset({"default", "d", "int", "float", "abs", "round", "sum", "min", "max", "string", "tojson"})
_TAKE_APART = frozenset({
    "attr", "batch", "count", "d", "default", "dictsort", "first", "float", "groupby", "int", "items", "last", "length",
    "list", "map", "max", "min", "random", "reject", "rejectattr", "reverse", "round", "select", "selectattr", "slice",
    "sort", "abs", "unique",
})  # fmt: skip
"""Filters that make no text of what they get."""


class TooLargeError(Exception):
    """The value would be too large; the message says which operation would have made it."""


def size_of(value: Any) -> int:
    """Characters and elements that `value` has as text, roughly; counting ends beyond `MAX_VALUE_LENGTH`.

    Lists that hold one list several times count it as often, as their text would.
    """
    if isinstance(value, (str, bytes)):
        return len(value)
    total, waiting, num_seen = 0, [value], 0
    while waiting and total <= MAX_VALUE_LENGTH and num_seen <= MAX_VALUE_LENGTH >> 4:
        part = waiting.pop()
        num_seen += 1
        if isinstance(part, (str, bytes)):
            total += len(part)
        elif isinstance(part, Mapping):
            total += len(part)
            waiting += [*part.keys(), *part.values()]
        elif isinstance(part, (list, tuple, set, frozenset)):
            total += len(part)
            waiting += part
        else:
            total += 1
    return MAX_VALUE_LENGTH + 1 if waiting else total


def check(size: int, what: str) -> None:
    if size > MAX_VALUE_LENGTH:
        raise TooLargeError(f"{what} would make a value of more than {MAX_VALUE_LENGTH} elements")


def check_operator(operator: str, left: Any, right: Any) -> None:
    """For + * ** and %. Raises `TooLargeError`."""
    if operator == "+":
        if _has_length(left) and _has_length(right):
            check(len(left) + len(right), "+")
    elif operator == "*":
        _check_product(left, right)
        _check_product(right, left)
    elif operator == "**":
        if isinstance(left, int) and isinstance(right, int) and left.bit_length() * right > MAX_INT_BITS:
            raise TooLargeError(f"** would make a number of more than {MAX_INT_BITS} bits")
    elif isinstance(left, str):
        _check_percent(left, right)


def check_join(parts: Iterable[Any], what: str) -> None:
    check(sum(map(size_of, parts)), what)


def check_filter(name: str, value: Any, arguments: Iterable[Any]) -> None:
    """For a filter on `value`. Raises `TooLargeError`."""
    arguments = list(arguments)
    if name not in _TAKE_ANY_NUMBER or name in ("round", "tojson"):
        _check_counts(arguments, name)
    if name == "format" and isinstance(value, str):
        _check_percent(value, arguments)
    elif name == "sum":
        if any(not isinstance(a, (int, float, str, type(None))) for a in arguments):
            raise TooLargeError("sum takes numbers here, and starts with one")
    elif name not in _TAKE_APART:
        check((size_of(value) + 1) * (1 + _factor(arguments)), f"the filter {name}")


def check_call(function: Callable[..., Any], arguments: Iterable[Any]) -> None:
    """For a method of a string or a number; any other function passes. Raises `TooLargeError`."""
    owner = getattr(function, "__self__", None)
    name = getattr(function, "__name__", "")
    wrapped = getattr(getattr(function, "__wrapped__", None), "__self__", None)
    if isinstance(wrapped, str):
        _check_format(wrapped, arguments)
    elif isinstance(owner, (str, bytes)) and name in _GROWING_METHODS:
        arguments = list(arguments)
        _check_counts(arguments, name)
        check((len(owner) + 1) * (1 + _factor(arguments)), name)
    elif isinstance(owner, int) and name == "to_bytes":
        _check_counts(arguments, name)


def _check_product(value: Any, times: Any) -> None:
    if isinstance(value, int) and isinstance(times, int):
        if value.bit_length() + times.bit_length() > MAX_INT_BITS:
            raise TooLargeError(f"* would make a number of more than {MAX_INT_BITS} bits")
    elif isinstance(value, (str, bytes, list, tuple)) and isinstance(times, int):
        check(len(value) * times, "*")


def _check_percent(text: str, values: Any) -> None:
    if _WIDE_PERCENT.search(text):
        raise TooLargeError("% takes widths of at most 4 digits, written out")
    check(len(text) * 2 + text.count("%") * size_of(values), "%")


def _check_format(text: str, values: Iterable[Any]) -> None:
    try:
        specs = [spec or "" for _, _, spec, _ in Formatter().parse(text)]
    except ValueError:
        return  # not a format; the call says so itself
    if any(_WIDE_SPEC.search(spec) for spec in specs):
        raise TooLargeError("format takes widths of at most 4 digits, written out")
    check(len(text) + len(specs) * size_of(list(values)), "format")


def _check_counts(arguments: Iterable[Any], what: str) -> None:
    if any(isinstance(a, int) and abs(a) > MAX_COUNT for a in arguments):
        raise TooLargeError(f"{what} takes numbers up to {MAX_COUNT}")


def _factor(arguments: Iterable[Any]) -> int:
    return sum(abs(a) if isinstance(a, int) else size_of(a) for a in arguments)


def _has_length(value: Any) -> bool:
    return isinstance(value, (str, bytes, list, tuple))
