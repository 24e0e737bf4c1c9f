"""Typed reads of a checkpoint's fields: a wrong type or range is an error that names field and file.

Knows no architecture. Values are as JSON or GGUF metadata gave them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, TypeVar, cast

from kvik.errors import ModelFileError

T = TypeVar("T", int, float, bool, str, list[Any], dict[str, Any])

MAX_SIZE: Final = 2**31 - 1
"""Largest size, count or token id that is believed."""

_KIND_NAMES = {
    int: "an integer",
    float: "a number",
    bool: "true or false",
    str: "a string",
    list: "a list",
    dict: "an object",
}
_REQUIRED: Final = object()


class Fields:
    """The fields of one file (or of one object in it). `source` names it in errors."""

    def __init__(self, values: Mapping[str, Any], source: str) -> None:
        self.values = values
        self.source = source

    def __contains__(self, name: str) -> bool:
        return self.values.get(name) is not None

    def read(self, kind: type[T], name: str, default: T | object = _REQUIRED) -> T:
        """The field as `kind`. Missing or null: `default`, or ModelFileError if there is none."""
        value = self.values.get(name)
        if value is None:
            if default is _REQUIRED:
                state = "is null" if name in self.values else "is missing"
                raise self.error(name, f"{state}; it must be {_KIND_NAMES[kind]}")
            return cast(T, default)
        return self._typed(kind, name, value)

    def read_nullable(self, kind: type[T], name: str, default: T | None = None) -> T | None:
        """The field as `kind`. Missing: `default`. Null: None."""
        if name not in self.values:
            return default
        return None if self.values[name] is None else self._typed(kind, name, self.values[name])

    def size(self, name: str, default: int | object = _REQUIRED, *, largest: int = MAX_SIZE) -> int:
        """A count or length: an integer of 1 to `largest`."""
        return self._in_range(name, self.read(int, name, default), 1, largest)

    def positive(self, name: str, default: float | object = _REQUIRED) -> float:
        """A finite number above 0."""
        value = self.read(float, name, default)
        if not (math.isfinite(value) and value > 0):
            raise self.error(name, f"is {value}; it must be a finite number above 0")
        return value

    def token_ids(self, name: str, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """One token id or a list of them. Missing: `default`. Null: none."""
        if name not in self.values:
            return default
        value = self.values[name]
        ids = value if isinstance(value, list) else [] if value is None else [value]
        return tuple(self._in_range(name, self._typed(int, name, token_id), 0, MAX_SIZE) for token_id in ids)

    def nested(self, name: str) -> Fields:
        """The object in this field; errors about its fields name both."""
        return Fields(self.read(dict, name), f"{self.source}: {name}")

    def error(self, name: str, problem: str) -> ModelFileError:
        return ModelFileError(f"{self.source}: field {name!r} {problem}")

    def _typed(self, kind: type[T], name: str, value: Any) -> T:
        if kind is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) <= 2**53:
            value = float(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.error(name, f"is {_shown(value)}; it must be {_KIND_NAMES[kind]}")
        return value

    def _in_range(self, name: str, value: int, smallest: int, largest: int) -> int:
        if not smallest <= value <= largest:
            raise self.error(name, f"is {_shown(value)}; it must be {smallest} to {largest}")
        return value


def _shown(value: Any) -> str:
    """A value for an error message, cut short. An integer of thousands of digits is not printed."""
    if isinstance(value, int) and abs(value) > 10**40:
        return "an integer of more than 40 digits"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
