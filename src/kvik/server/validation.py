"""From JSON to a checked model of pydantic's. Every failure is an `InvalidBodyError` that says in words what is wrong.

Whatever was sent, neither the work nor the message grows beyond it: a list is given up at its first wrong item, and of
what was sent only the beginning is shown.
"""

from __future__ import annotations

import logging
import reprlib
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar, cast

from pydantic import BaseModel, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, ErrorDetails

from kvik.server.errors import InvalidBodyError
from kvik.telemetry.log import get_logger

logger = get_logger(__name__)

M = TypeVar("M", bound="RequestModel")

MAX_ERRORS = 10
MAX_ERROR_CHARS = 1000
MAX_INPUT_CHARS = 200
MAX_ENTRIES = 4096
"""Of a JSON object: each of its entries may be an error of its own."""
MAX_UNKNOWN_FIELDS = 256
"""Distinct unknown field names that are warned of in the life of a process."""

_warned_fields: set[str] = set()
_shortened = reprlib.Repr()
_shortened.maxlevel = 3
_shortened.maxstring = MAX_INPUT_CHARS


def _failing_fast(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_failing_fast(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    copy = {key: value if key == "metadata" else _failing_fast(value) for key, value in schema.items()}
    return copy | {"fail_fast": True} if schema.get("type") == "list" else copy


class RequestModel(BaseModel):
    """The base of all bodies: a list ends at its first wrong item, whose errors are all that is kept of it."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return cast(CoreSchema, _failing_fast(handler(source)))


def validate(content: Any, model: type[M]) -> M:
    """`content` as a `model`; fields that the model does not have are ignored, with one warning each."""
    if isinstance(content, dict):
        _check_sizes(content)
    try:
        result = model.model_validate(content)
    except ValidationError as error:
        raise _invalid(error, content) from None
    if isinstance(content, dict):
        _warn_of_unknown(content.keys() - model.model_fields.keys())
    return result


def _check_sizes(content: dict[str, Any]) -> None:
    for name, value in [("body", content), *content.items()]:
        if isinstance(value, dict) and len(value) > MAX_ENTRIES:
            name = name[:100]
            raise InvalidBodyError(f"{name} may have at most {MAX_ENTRIES} entries, got {len(value)}", param=name)


def _warn_of_unknown(names: set[str]) -> None:
    for name in sorted(names - _warned_fields):
        if len(_warned_fields) >= MAX_UNKNOWN_FIELDS:
            return
        _warned_fields.add(name)
        logger.log(logging.WARNING, "request field %.100r is unknown here and ignored", name)


def _invalid(error: ValidationError, content: Any) -> InvalidBodyError:
    """One line per place; what the branches of a union say of the same place is one sentence."""
    by_place: dict[str, list[ErrorDetails]] = {}
    for found in error.errors(include_url=False, include_context=False):
        by_place.setdefault(_place(found, content), []).append(found)
    lines = [_line(place, found) for place, found in list(by_place.items())[:MAX_ERRORS]]
    if len(by_place) > MAX_ERRORS:
        lines.append(f"  ... and {len(by_place) - MAX_ERRORS} more")
    heading = f"{len(by_place)} validation error{'s' if len(by_place) != 1 else ''}:"
    return InvalidBodyError("\n".join([heading, *lines]), param=next(iter(by_place)))


def _place(found: ErrorDetails, content: Any) -> str:
    """Where it is in what was sent: `body.messages.0`. pydantic's own path also names branches of unions."""
    names = ["body"]
    for part in found["loc"]:
        is_there = _has(content, part)
        if is_there:
            content = content[part]
        if is_there or (found["type"] == "missing" and part is found["loc"][-1]):
            names.append(str(part)[:100])
    return ".".join(names)


def _has(content: Any, part: str | int) -> bool:
    if isinstance(content, dict):
        return part in content
    return isinstance(content, list) and isinstance(part, int) and part < len(content)


def _line(place: str, found: Sequence[ErrorDetails]) -> str:
    what = "; or: ".join(_unique(error["msg"] for error in found))
    if found[0]["type"] == "missing":
        return f"  {place}: {what}"[:MAX_ERROR_CHARS]
    return f"  {place}: {what}, got {_shown(found[0]['input'])}"[:MAX_ERROR_CHARS]


def _unique(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _shown(value: Any) -> str:
    text = _shortened.repr(value)
    return text if len(text) <= MAX_INPUT_CHARS else text[:MAX_INPUT_CHARS] + "..."
