"""POST /drain and /undrain: an operator closes and opens the door. What is inside goes on.

The routes are there where operators can be told from others: with keys, or in development mode.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from kvik.server.responses import json_response
from kvik.server.state import state_of
from kvik.telemetry.log import get_logger

logger = get_logger(__name__)


async def drain(request: Request) -> Response:
    """Take no new work: 503 for it and for /ready. Twice is once."""
    return _set_closed(request, True)


async def undrain(request: Request) -> Response:
    """Take new work again."""
    return _set_closed(request, False)


def _set_closed(request: Request, is_closed: bool) -> Response:
    state = state_of(request)
    if state.is_closed != is_closed:
        logger.info("%s: new requests are %s", request.url.path, "refused" if is_closed else "taken again")
    state.is_closed = is_closed
    return json_response({"status": state.phase})
