"""The routes of this API, with what /openapi.json says of them, and the store that they share."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from kvik.config.frontend import ServerConfig
from kvik.server.openapi import request_body
from kvik.server.responses_api.protocol import ResponsesRequest
from kvik.server.responses_api.serving import count_input_tokens, create_response
from kvik.server.responses_api.store import ResponseStore, StoreLimits
from kvik.server.responses_api.stored import (
    MAX_LISTED_ITEMS,
    cancel_response,
    delete_response,
    list_input_items,
    retrieve_response,
)

_ONE = "/v1/responses/{response_id}"
_ID: dict[str, Any] = {"name": "response_id", "in": "path", "required": True, "schema": {"type": "string"}}


def add_responses_routes(app: FastAPI, config: ServerConfig) -> None:
    """Add them to `app`, whose state gets the store, which gets a line in the ledger."""
    store = app.state.responses = ResponseStore(
        StoreLimits(
            max_responses=config.max_stored_responses,
            max_bytes=config.max_stored_responses_bytes,
            max_age_s=config.stored_responses_max_age,
            max_background=config.max_background_responses,
        )
    )
    ledger = app.state.kvik.client.ledger
    ledger.observe("responses", lambda: store.num_bytes, config.max_stored_responses_bytes)
    app.add_api_route("/v1/responses", create_response, methods=["POST"], openapi_extra=request_body(ResponsesRequest))
    path = "/v1/responses/input_tokens"
    app.add_api_route(path, count_input_tokens, methods=["POST"], openapi_extra=request_body(ResponsesRequest))
    stream = _query("stream", {"type": "boolean"}), _query("starting_after", {"type": "integer", "minimum": 0})
    listing = (
        _query("after", {"type": "string"}),
        _query("limit", {"type": "integer", "minimum": 1, "maximum": MAX_LISTED_ITEMS}),
        _query("order", {"enum": ["asc", "desc"]}),
    )
    app.add_api_route(_ONE, retrieve_response, methods=["GET"], openapi_extra=_parameters(*stream))
    app.add_api_route(_ONE, delete_response, methods=["DELETE"], openapi_extra=_parameters())
    app.add_api_route(f"{_ONE}/cancel", cancel_response, methods=["POST"], openapi_extra=_parameters())
    app.add_api_route(f"{_ONE}/input_items", list_input_items, methods=["GET"], openapi_extra=_parameters(*listing))


def _query(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema}


def _parameters(*queries: dict[str, Any]) -> dict[str, Any]:
    return {"parameters": [_ID, *queries]}
