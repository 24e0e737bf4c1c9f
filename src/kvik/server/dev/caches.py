"""POST /reset_prefix_cache, /reset_mm_cache and /reset_encoder_cache."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from kvik.server.dev.query import check_known, yes_or_no
from kvik.server.responses import json_response
from kvik.server.state import state_of


async def reset_prefix_cache(request: Request) -> Response:
    """Forget all prefixes: `success` is false where requests run, unless these are to be computed again.

    `reset_external` is about caches outside of the engine, of which there are none: nothing is left in any.
    """
    check_known(request, ("reset_running_requests", "reset_external"))
    yes_or_no(request, "reset_external", False)
    takes_running = yes_or_no(request, "reset_running_requests", False)
    success = await state_of(request).client.control.reset_prefix_cache(takes_running)
    return json_response({"success": success})


async def reset_nothing(request: Request) -> Response:
    """For the caches of images and of encoders: models of text have none, so all of them are empty."""
    check_known(request, ())
    return Response()
