"""POST /sleep, /wake_up, /pause, /resume, /release_kv_cache_memory, GET /is_sleeping, /is_paused. See docs.

What happens to requests is `engine_client.control`'s matter; here it is query parameters and answers.
"""

from __future__ import annotations

from typing import cast

from starlette.requests import Request
from starlette.responses import Response

from kvik.engine_client.control import QuietMode
from kvik.errors import InvalidRequestError
from kvik.server.dev.query import check_known, choice, yes_or_no
from kvik.server.responses import json_response
from kvik.server.state import state_of

MODES = ("abort", "wait", "keep")
LEVELS = ("0", "1", "2")
TAGS = ("weights", "kv_cache")


async def sleep(request: Request) -> Response:
    """Give memory back: level 1 that of the KV cache, 2 that of the weights too."""
    check_known(request, ("level", "mode"))
    level = int(choice(request, "level", LEVELS, "1"))
    await state_of(request).client.control.sleep(level, _mode(request))
    return json_response({"status": "sleeping", "level": state_of(request).client.control.level})


async def wake_up(request: Request) -> Response:
    """Restore what `tags` name, everything without them."""
    check_known(request, ("tags",))
    tags = request.query_params.getlist("tags") or None
    for tag in tags or ():
        if tag not in TAGS:
            raise InvalidRequestError(f"tags must be {' or '.join(TAGS)}, got {tag[:100]!r}", param="tags")
    sleeps = await state_of(request).client.control.wake_up(tags)
    return json_response({"status": "sleeping" if sleeps else "awake", "tags": tags})


async def is_sleeping(request: Request) -> Response:
    return json_response({"is_sleeping": state_of(request).client.control.level is not None})


async def pause(request: Request) -> Response:
    """Compute nothing until /resume; what comes meanwhile waits."""
    check_known(request, ("mode", "clear_cache"))
    clears = yes_or_no(request, "clear_cache", True)
    await state_of(request).client.control.pause(_mode(request), clears)
    return json_response({"status": "paused"})


async def resume(request: Request) -> Response:
    check_known(request, ())
    await state_of(request).client.control.resume()
    return json_response({"status": "resumed"})


async def is_paused(request: Request) -> Response:
    return json_response({"is_paused": state_of(request).client.control.is_paused})


async def release_kv_cache_memory(request: Request) -> Response:
    """Give back the memory of keys and values and go on. What runs is computed again."""
    check_known(request, ())
    await state_of(request).client.control.release_kv_cache_memory()
    return json_response({"status": "kv_cache_released"})


def _mode(request: Request) -> QuietMode:
    return cast(QuietMode, choice(request, "mode", MODES, "abort"))
