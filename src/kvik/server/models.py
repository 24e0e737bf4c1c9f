"""GET /v1/models and /v1/models/{id}."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from kvik.server.responses import json_response
from kvik.server.state import ServerState, state_of


async def list_models(request: Request) -> Response:
    """The names of the model, then the adapters."""
    state = state_of(request)
    return json_response({"object": "list", "data": _cards(state)})


async def retrieve_model(request: Request) -> Response:
    state = state_of(request)
    name = request.path_params["model_id"]
    for card in _cards(state):
        if card["id"] == name:
            return json_response(card)
    raise state.unknown_model(name)


def _cards(state: ServerState) -> list[dict[str, Any]]:
    root = state.client.config.model.model
    cards = [_card(state, name, root, None) for name in state.model_names]
    for served in state.adapters.served:
        cards.append(_card(state, served.lora.lora_name, served.lora.lora_path, served.parent))
    return cards


def _card(state: ServerState, name: str, root: str, parent: str | None) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": state.created_s,
        "owned_by": "kvik",
        "root": root,
        "parent": parent,
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
