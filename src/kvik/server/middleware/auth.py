"""Who is let in: keys and their scopes, and the socket of the admin routes. Every path is closed that is not opened.

A key comes as `Authorization: Bearer KEY` or, as some of Anthropic's clients send it, as `x-api-key: KEY`.
It stands around all routes, so none can be forgotten; `access/scopes.py` says what each needs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from kvik.server.access.configured import tokens_of
from kvik.server.access.door import came_by_admin_door
from kvik.server.access.keys import Key, identify
from kvik.server.access.owner import ADMIN_UDS, set_owner
from kvik.server.access.scopes import Need, is_enough, need_of
from kvik.server.error_shapes import refusal
from kvik.server.errors import NEEDS_KEY, describe_status
from kvik.server.middleware.paths import route_path

_TOO_LITTLE = "{method} {path} needs a key with the scope {need}; the key {name} has {scopes}"


class AuthenticationMiddleware:
    """401 without a key that `keys` knows, 403 with one that may not go there; else the owner is set."""

    def __init__(self, app: ASGIApp, keys: Callable[[], Sequence[Key]], open_paths: Collection[str] = ()) -> None:
        self.app = app
        self._keys = keys
        self._open_paths = frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or came_by_admin_door(scope):
            await self.app(scope, receive, send)
            return
        key = identify(tokens_of(scope["headers"]), self._keys())
        if key is not None:
            set_owner(scope, key.name, is_admin="admin" in key.scopes)
        # A WebSocket has no route here and no method; nothing of it is open.
        need = need_of(route_path(scope), self._open_paths) if scope["type"] == "http" else "admin"
        if need == "open" or (key is not None and is_enough(need, key.scopes)):
            await self.app(scope, receive, send)
        elif key is None:
            headers = {"WWW-Authenticate": "Bearer"}
            response = refusal(scope, describe_status(401, NEEDS_KEY), detail="Unauthorized", headers=headers)
            await response(scope, receive, send)
        else:
            message = _too_little(scope, need, key)
            await refusal(scope, describe_status(403, message), detail="Forbidden")(scope, receive, send)


class AdminSocketMiddleware:
    """With --admin-uds: admin routes are on that socket only, and what generates is not on it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        need, is_admin_door = need_of(route_path(scope)), came_by_admin_door(scope)
        problem = None
        if need == "admin" and not is_admin_door:
            problem = "admin routes are served on the socket of --admin-uds only, and this is no other route"
        elif need == "infer" and is_admin_door:
            problem = "this socket serves no inference; ask the server's other address"
        if problem is not None:
            await refusal(scope, describe_status(404, problem), detail="Not Found")(scope, receive, send)
            return
        if is_admin_door:
            set_owner(scope, ADMIN_UDS, is_admin=True)
        await self.app(scope, receive, send)


def _too_little(scope: Scope, need: Need, key: Key) -> str:
    return _TOO_LITTLE.format(
        method=scope.get("method", "WebSocket"), path=scope["path"][:200], need=need, name=key.name,
        scopes=", ".join(sorted(key.scopes)),
    )  # fmt: skip
