"""GET /debug/requests: what each open request is doing, and why it waits. Shows no prompt and no answer."""

from __future__ import annotations

from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import Response

from kvik.server.responses import json_response
from kvik.server.state import state_of


async def live_requests(request: Request) -> Response:
    """Every open sequence: state, reason for waiting, blocks it holds, age. POST /v1/abort ends one by its id."""
    report = await state_of(request).client.describe_requests()
    return json_response(asdict(report))
