"""GET /ui: the page for people. Its files need no key, all data on it do."""

from __future__ import annotations

import asyncio

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from kvik.server.page_files import page_file


async def ui(request: Request) -> Response:
    """To the folder, as addresses in the page are relative; so is this one, whatever a proxy puts before it."""
    return RedirectResponse("ui/", status_code=307)


async def ui_file(request: Request) -> Response:
    """The page, or one of the files that it loads."""
    file = await asyncio.to_thread(page_file, request.path_params["name"])
    if file is None:
        raise HTTPException(404)
    return Response(file.body, file.status, file.headers)
