"""Calls by name, from an explicit table: what is not listed cannot be called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kvik.errors import EngineError

Utility = Callable[..., Any]


def call_utility(table: Mapping[str, Utility], method: str, args: Sequence[Any]) -> Any:
    """Raises `EngineError` for a name that is not in the table or arguments that do not fit; else what it raises."""
    utility = table.get(method)
    if utility is None:
        raise EngineError(f"the engine has no method {method!r}; it has {', '.join(sorted(table))}")
    try:
        inspect.signature(utility).bind(*args)
    except TypeError as error:
        raise EngineError(
            f"{method}{inspect.signature(utility)} cannot be called with {list(args)!r}: {error}"
        ) from error
    return utility(*args)
