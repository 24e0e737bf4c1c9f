"""GET /server_info: what was asked of the engine and the server, and where they run; secrets as ***."""

from __future__ import annotations

import dataclasses
import os
import platform
import sys
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from kvik import __version__
from kvik.config import env
from kvik.config.frontend import ServerConfig
from kvik.server.dev.query import check_known, choice
from kvik.server.responses import json_response
from kvik.server.state import ServerState, state_of

FORMATS = ("text", "json")


async def server_info(request: Request) -> Response:
    """`vllm_config` keeps the field's name: as text, or with config_format=json as an object."""
    check_known(request, ("config_format",))
    as_text = choice(request, "config_format", FORMATS, "text") == "text"
    state = state_of(request)
    return json_response({
        "vllm_config": config_text(state) if as_text else config_object(state),
        "vllm_env": env.shown(),
        "system_env": system_facts(),
    })  # fmt: skip


def config_text(state: ServerState) -> str:
    return f"{state.client.config!r}\n{without_secrets(state.config)!r}"


def config_object(state: ServerState) -> dict[str, Any]:
    """Sections by name; values without a form in JSON are shown as text."""
    engine: dict[str, Any] = msgspec.to_builtins(state.client.config, enc_hook=str)
    return engine | {
        "server": msgspec.to_builtins(without_secrets(state.config), enc_hook=str),
        "facts": {name: getattr(state.client.facts, name) for name in state.client.facts.__struct_fields__},
    }


def without_secrets(config: ServerConfig) -> ServerConfig:
    return dataclasses.replace(config, api_key=("***",) * len(config.api_key))


def system_facts() -> dict[str, Any]:
    return {
        "kvik": __version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "machine": platform.machine(),
        "num_cpus": os.cpu_count(),
    }
