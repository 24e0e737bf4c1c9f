"""GET /v1/models and /v1/models/{id}."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from kvik.errors import UnknownModelError
from kvik.server.responses import json_response
from kvik.server.state import ServerState, state_of


async def list_models(request: Request) -> Response:
    state = state_of(request)
    return json_response({"object": "list", "data": [_card(state, name) for name in state.model_names]})


async def retrieve_model(request: Request) -> Response:
    state = state_of(request)
    name = request.path_params["model_id"]
    if name not in state.model_names:
        raise UnknownModelError(
            f"the model {name[:200]!r} does not exist; served here: {', '.join(state.model_names)}", param="model"
        )
    return json_response(_card(state, name))


def _card(state: ServerState, name: str) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": state.created_s,
        "owned_by": "kvik",
        "root": state.client.config.model.model,
        "parent": None,
        "max_model_len": state.client.facts.max_model_len,
        "permission": [_permission(state, name)],
    }


def _permission(state: ServerState, name: str) -> dict[str, Any]:
    return {
        "id": f"modelperm-{state.permission_id(name)}",
        "object": "model_permission",
        "created": state.created_s,
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
