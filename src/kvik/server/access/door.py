"""Which socket a request came through: the common one, or that of --admin-uds. Knows no route."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

_FIELD = "kvik.admin_door"


class AdminDoor:
    """The application as the admin socket serves it. Only this can mark a request: clients write no scope."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[_FIELD] = True
        await self._app(scope, receive, send)


def came_by_admin_door(scope: Scope) -> bool:
    return bool(scope.get(_FIELD, False))
