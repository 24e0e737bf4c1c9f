"""POST /collective_rpc: calls into the engine by name, from a table of those that change nothing a client relies on."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from pydantic import ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from kvik.errors import InvalidRequestError, RequestError
from kvik.server.body import read_model
from kvik.server.responses import json_response
from kvik.server.state import state_of
from kvik.server.validation import RequestModel

METHODS = ("check_integrity", "describe", "get_facts", "get_supported_tasks", "is_sleeping", "reset_prefix_cache")
"""None of them takes arguments here."""
MAX_TIMEOUT_S = 3600.0


class RpcTimeoutError(RequestError):
    """The engine did not answer in time."""

    status = 408
    type = "RequestTimeoutError"


class RpcRequest(RequestModel):
    """A call."""

    model_config = ConfigDict(extra="forbid")

    method: str = Field(description=f"one of {', '.join(METHODS)}")
    args: list[Any] = Field([], description="must be empty: no method takes any")
    kwargs: dict[str, Any] = Field({}, description="must be empty: no method takes any")
    timeout: Annotated[float, Field(gt=0, le=MAX_TIMEOUT_S)] | None = Field(None, description="seconds")


async def collective_rpc(request: Request) -> Response:
    """The answers of all engines, of which there is one."""
    state = state_of(request)
    body = await read_model(request, RpcRequest, state.limits)
    if body.method not in METHODS:
        raise InvalidRequestError(
            f"there is no method {body.method[:100]!r} to call; there are {', '.join(METHODS)}", param="method"
        )
    if body.args or body.kwargs:
        raise InvalidRequestError(f"{body.method} takes no arguments", param="args" if body.args else "kwargs")
    try:
        result = await asyncio.wait_for(state.client.utility(body.method), body.timeout)
    except TimeoutError:
        raise RpcTimeoutError(f"{body.method} did not answer within {body.timeout:g} seconds") from None
    return json_response({"results": [result]})
