"""The routes of a front end elsewhere: there with --enable-scale-out or --tokens-only, else a 403 that says so."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from kvik.config.frontend import ServerConfig
from kvik.server.abort import AbortRequest, abort_requests
from kvik.server.chat.protocol import ChatCompletionRequest
from kvik.server.completions.protocol import CompletionRequest
from kvik.server.errors import PermissionDeniedError
from kvik.server.openapi import request_body
from kvik.server.scale_out.derender import derender_chat, derender_completion
from kvik.server.scale_out.generate import generate
from kvik.server.scale_out.protocol import DerenderChatRequest, DerenderCompletionRequest, GenerateRequest
from kvik.server.scale_out.render import render_chat, render_completion

_HANDLERS: dict[str, tuple[Any, type[Any]]] = {
    "/inference/v1/generate": (generate, GenerateRequest),
    "/inference/v1/abort_requests": (abort_requests, AbortRequest),
    "/v1/chat/completions/render": (render_chat, ChatCompletionRequest),
    "/v1/completions/render": (render_completion, CompletionRequest),
    "/v1/chat/completions/derender": (derender_chat, DerenderChatRequest),
    "/v1/completions/derender": (derender_completion, DerenderCompletionRequest),
}


def add_scale_out_routes(app: FastAPI, config: ServerConfig) -> None:
    if config.enable_scale_out or config.tokens_only:
        for path, (handler, body) in _HANDLERS.items():
            app.add_api_route(path, handler, methods=["POST"], openapi_extra=request_body(body))
        return
    for path in _HANDLERS:
        app.add_api_route(path, refuse, methods=["POST"], include_in_schema=False)


async def refuse(request: Request) -> Response:
    raise PermissionDeniedError(
        f"{request.url.path} is off; the server's operator can allow it with --enable-scale-out"
    )
