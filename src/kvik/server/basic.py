"""What operators ask: is it alive, how busy is it, which version is it, what are its numbers."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, exposition
from starlette.requests import Request
from starlette.responses import Response

from kvik import __version__
from kvik.server.responses import json_response
from kvik.server.state import state_of


async def health(request: Request) -> Response:
    """200, or 503 while draining and once the engine is dead. No body."""
    return Response(status_code=200 if state_of(request).is_healthy else 503)


async def load(request: Request) -> Response:
    return json_response({"server_load": state_of(request).num_in_flight})


async def version(request: Request) -> Response:
    return json_response({"version": __version__})


async def kv_event_sources(request: Request) -> Response:
    """Who publishes which blocks are cached: nobody, so far."""
    return json_response({})


async def metrics(request: Request) -> Response:
    registry: CollectorRegistry = request.app.state.registry
    return Response(exposition.generate_latest(registry), headers={"content-type": exposition.CONTENT_TYPE_LATEST})
