"""Query parameters of the development routes -> values. Knows no route; unknown parameters are refused by name."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from starlette.requests import Request

from kvik.errors import InvalidRequestError


def check_known(request: Request, known: Collection[str]) -> None:
    """Raise `InvalidRequestError` for the first parameter that is not among `known`."""
    for name in request.query_params:
        if name not in known:
            takes = f"it takes {', '.join(sorted(known))}" if known else "it takes none"
            raise InvalidRequestError(f"there is no query parameter {name[:100]!r} here; {takes}", param=name[:100])


def choice(request: Request, name: str, accepted: Sequence[str], default: str) -> str:
    value = request.query_params.get(name, default)
    if value not in accepted:
        raise InvalidRequestError(f"{name} must be one of {', '.join(accepted)}, got {value[:100]!r}", param=name)
    return value


def yes_or_no(request: Request, name: str, default: bool) -> bool:
    return choice(request, name, ("true", "false", "1", "0"), str(default).lower()) in ("true", "1")


def parameters(**accepted: Sequence[str]) -> dict[str, Any]:
    """`openapi_extra` of a route with these parameters and what each takes."""
    return {
        "parameters": [
            {"name": name, "in": "query", "required": False, "schema": {"type": "string", "enum": list(values)}}
            for name, values in accepted.items()
        ]
    }
