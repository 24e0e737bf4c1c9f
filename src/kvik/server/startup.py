"""GET /startup once the application is there; before that, `starting` answers it."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from kvik.server.responses import json_response
from kvik.server.state import state_of
from kvik.telemetry.timeline import Status

_STATUS: dict[str, Status] = {
    "serving": "ready", "recovering": "recovering", "draining": "draining", "dead": "dead"
}  # fmt: skip
"""What `ServerState.phase` is called here."""


async def startup(request: Request) -> Response:
    """The phases of the start, and of the starts of engines that replaced dead ones."""
    state = state_of(request)
    return json_response(state.timeline.report(_STATUS[state.phase]))
