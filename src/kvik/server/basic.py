"""What operators ask: is it alive, how busy is it, which version is it, what are its numbers."""

from __future__ import annotations

from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import Response

from kvik import __version__
from kvik.server.errors import RETRY_AFTER_S
from kvik.server.responses import json_response
from kvik.server.starting.progress import progress_of, retry_after_s
from kvik.server.state import ServerState, state_of
from kvik.telemetry.registry import CONTENT_TYPE, render
from kvik.telemetry.timeline import Timeline


async def health(request: Request) -> Response:
    """200 without a body; 503 while draining, while the engine is started again, and once it is dead for good."""
    state = state_of(request)
    return Response(status_code=200) if state.is_healthy else _not_serving(state)


async def ready(request: Request) -> Response:
    """Whether to send requests here: 200, or 503 with what the server is doing instead, and for how long."""
    state = state_of(request)
    if state.is_healthy:
        return json_response({"status": state.phase})
    return _recovering(state.timeline) if state.client.is_recovering else _not_serving(state)


async def live(request: Request) -> Response:
    """Whether to leave the process alone: 200 also while it drains, recovers, or ends a stalled engine by itself."""
    state = state_of(request)
    return json_response({"status": state.phase}, status=503 if state.client.is_dead else 200)


def _not_serving(state: ServerState) -> Response:
    return json_response({"status": state.phase}, status=503, headers={"Retry-After": str(RETRY_AFTER_S)})


def _recovering(timeline: Timeline) -> Response:
    headers = {"Retry-After": str(retry_after_s(timeline))}
    return json_response(progress_of("recovering", timeline), status=503, headers=headers)


async def load(request: Request) -> Response:
    return json_response({"server_load": state_of(request).num_in_flight})


async def version(request: Request) -> Response:
    return json_response({"version": __version__})


async def kv_event_sources(request: Request) -> Response:
    """Who publishes which blocks are cached: nobody, so far."""
    return json_response({})


async def metrics(request: Request) -> Response:
    registry: CollectorRegistry = request.app.state.registry
    return Response(render(registry), headers={"content-type": CONTENT_TYPE})
