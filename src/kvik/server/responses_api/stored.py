"""GET, DELETE and cancel of /v1/responses/{id}: what clients do with responses that are stored."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from kvik.errors import InvalidRequestError
from kvik.server.responses import EventStreamResponse, json_response
from kvik.server.responses_api.serving import responses_of
from kvik.server.responses_api.store import StoredResponse
from kvik.server.state import state_of

_TRUE, _FALSE = ("true", "1"), ("false", "0", "")
MAX_LISTED_ITEMS = 100


async def retrieve_response(request: Request) -> Response:
    """The response as it is now; with `stream=true` its events after `starting_after`, and those to come."""
    stored = responses_of(request).get(request.path_params["response_id"])
    wants_stream = _flag(request, "stream")
    starting_after = _number(request, "starting_after", -1)
    if not wants_stream:
        if starting_after >= 0:
            raise InvalidRequestError("starting_after needs stream=true", param="starting_after")
        return json_response(stored.current_body())
    if stored.events is None:
        raise InvalidRequestError(
            "this response was made without events: it was created neither with stream=true nor with background=true; "
            "retrieve it whole",
            param="stream",
        )
    interval = state_of(request).config.sse_keep_alive_interval
    return EventStreamResponse(stored.events.follow(starting_after), _nothing, interval)


async def cancel_response(request: Request) -> Response:
    """End a response that is being made in the background. One that is cancelled already is answered as it is."""
    stored = responses_of(request).get(request.path_params["response_id"])
    if stored.run is not None:
        await stored.run.cancel()
    elif not stored.body["background"]:
        raise InvalidRequestError(
            "only responses that were created with background=true can be cancelled; others end when their connection "
            "is closed",
            param="response_id",
        )
    body = stored.current_body()
    if body["status"] != "cancelled":
        raise InvalidRequestError(
            f"this response has ended already, its status is {body['status']}; only those that are queued or in "
            "progress can be cancelled",
            param="response_id",
        )
    return json_response(body)


async def delete_response(request: Request) -> Response:
    """Forget a response; one that is being made is cancelled first."""
    own = responses_of(request)
    stored = own.get(request.path_params["response_id"])
    if stored.run is not None:
        await stored.run.cancel()
    own.store.delete(stored)
    return json_response({"id": stored.id, "object": "response", "deleted": True})


async def list_input_items(request: Request) -> Response:
    """The items that the response answers, those of earlier responses included, newest first unless `order=asc`."""
    stored = responses_of(request).get(request.path_params["response_id"])
    limit = _number(request, "limit", 20)
    if not 1 <= limit <= MAX_LISTED_ITEMS:
        raise InvalidRequestError(f"limit must be from 1 to {MAX_LISTED_ITEMS}, got {limit}", param="limit")
    return json_response(_page(_items(request, stored), limit))


def _items(request: Request, stored: StoredResponse) -> list[dict[str, Any]]:
    """In the order that is asked for, from the item after `after`."""
    order = request.query_params.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidRequestError(f"order must be asc or desc, got {order[:100]!r}", param="order")
    items = [*stored.earlier, *stored.input]
    items = items if order == "asc" else items[::-1]
    after = request.query_params.get("after")
    if after is None:
        return items
    ids = [item["id"] for item in items]
    if after not in ids:
        raise InvalidRequestError(
            f"after must be the id of an item of this response, got {after[:100]!r}", param="after"
        )
    return items[ids.index(after) + 1 :]


def _page(items: list[dict[str, Any]], limit: int) -> dict[str, Any]:
    data = items[:limit]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else "",
        "last_id": data[-1]["id"] if data else "",
        "has_more": len(items) > limit,
    }


def _flag(request: Request, name: str) -> bool:
    text = request.query_params.get(name, "").lower()
    if text not in _TRUE + _FALSE:
        raise InvalidRequestError(f"{name} must be true or false, got {text[:100]!r}", param=name)
    return text in _TRUE


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise InvalidRequestError(f"{name} must be a whole number from 0, got {text[:100]!r}", param=name)
    return int(text)


async def _nothing() -> None:
    """Reading events holds nothing in the engine."""
