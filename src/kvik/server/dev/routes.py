"""All routes of the development mode. Whoever reaches the port may use them, so they are off unless asked for."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from starlette.responses import Response

from kvik.server.abort import AbortRequest, abort_requests
from kvik.server.dev import caches, info, rest, rpc
from kvik.server.dev.query import parameters
from kvik.server.openapi import request_body
from kvik.telemetry.log import get_logger

logger = get_logger(__name__)

_YES_NO = ("true", "false")


def add_dev_routes(app: FastAPI) -> None:
    logger.warning("Development mode: whoever reaches this server may pause, empty and inspect it.")

    def get(path: str, handler: Any, **accepted: tuple[str, ...]) -> None:
        app.add_api_route(path, handler, methods=["GET"], openapi_extra=parameters(**accepted))

    def post(path: str, handler: Any, **accepted: tuple[str, ...]) -> None:
        app.add_api_route(path, handler, methods=["POST"], openapi_extra=parameters(**accepted))

    post("/reset_prefix_cache", caches.reset_prefix_cache, reset_running_requests=_YES_NO, reset_external=_YES_NO)
    for path in ("/reset_mm_cache", "/reset_encoder_cache"):
        app.add_api_route(path, caches.reset_nothing, methods=["POST"], response_class=Response)
    get("/server_info", info.server_info, config_format=info.FORMATS)
    post("/sleep", rest.sleep, level=rest.LEVELS, mode=rest.MODES)
    post("/wake_up", rest.wake_up, tags=rest.TAGS)
    get("/is_sleeping", rest.is_sleeping)
    post("/release_kv_cache_memory", rest.release_kv_cache_memory)
    post("/pause", rest.pause, mode=rest.MODES, clear_cache=_YES_NO)
    post("/resume", rest.resume)
    get("/is_paused", rest.is_paused)
    app.add_api_route(
        "/collective_rpc", rpc.collective_rpc, methods=["POST"], openapi_extra=request_body(rpc.RpcRequest)
    )
    app.add_api_route("/abort_requests", abort_requests, methods=["POST"], openapi_extra=request_body(AbortRequest))
