"""Ends requests by the ids of their answers. Knows no route: clients have one, operators another."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from kvik.server.access.owner import is_admin, owner_of
from kvik.server.body import read_model
from kvik.server.responses import json_response
from kvik.server.state import state_of
from kvik.server.validation import RequestModel

MAX_REQUEST_IDS = 4096


class AbortRequest(RequestModel):
    """Whom to end."""

    model_config = ConfigDict(extra="forbid")

    request_ids: Annotated[list[str], Field(max_length=MAX_REQUEST_IDS)] | None = Field(
        None, description="ids of answers; prompt i of several has ID-i; none: all requests"
    )


class AbortOwnRequest(RequestModel):
    """Whom a client wants ended: it must know the ids, and they must be of its own requests."""

    request_ids: Annotated[list[str], Field(min_length=1, max_length=MAX_REQUEST_IDS)] = Field(
        description="ids of answers (cmpl-..., chatcmpl-...), or what X-Request-Id made of them"
    )


async def abort_own_requests(request: Request) -> Response:
    """End requests wherever they are: on their way in, waiting, computed. Their answers end with "abort"."""
    state = state_of(request)
    body = await read_model(request, AbortOwnRequest, state.limits)
    caller = None if is_admin(request.scope) else owner_of(request.scope)
    ids = dict.fromkeys(body.request_ids)
    num_aborted = sum([await state.client.abort(request_id, caller) for request_id in ids])
    return json_response({"status": "aborted", "aborted": num_aborted})


async def abort_requests(request: Request) -> Response:
    """End requests; their answers end with finish reason "abort"."""
    state = state_of(request)
    has_body = request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers
    body = await read_model(request, AbortRequest, state.limits) if has_body else AbortRequest(request_ids=None)
    if body.request_ids is None:
        num_aborted = state.client.abort_all()
    else:
        num_aborted = sum([await state.client.abort(request_id) for request_id in dict.fromkeys(body.request_ids)])
    return json_response({"status": "aborted", "aborted": num_aborted})
