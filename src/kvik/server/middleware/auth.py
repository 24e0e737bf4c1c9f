"""--api-key: who may use what acts. Every path is guarded unless it is one of the open ones."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from kvik.server.errors import describe_status
from kvik.server.middleware.paths import is_open, route_path
from kvik.server.responses import error_response

_REFUSED = "a valid API key is needed: send the header 'Authorization: Bearer KEY'"


class AuthenticationMiddleware:
    """Answers 401 to requests without one of `keys`. Hashes are compared, in constant time, all of them."""

    def __init__(self, app: ASGIApp, keys: Sequence[str]) -> None:
        self.app = app
        self._hashes = [_hash(key.encode()) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self._may_pass(scope):
            await self.app(scope, receive, send)
            return
        headers = {"WWW-Authenticate": "Bearer"}
        response = error_response(describe_status(401, _REFUSED), detail="Unauthorized", headers=headers)
        await response(scope, receive, send)

    def _may_pass(self, scope: Scope) -> bool:
        if scope["type"] == "http" and (scope["method"] == "OPTIONS" or is_open(route_path(scope))):
            return True
        return self._is_known(_token(scope))

    def _is_known(self, token: bytes) -> bool:
        found = False
        digest = _hash(token)
        for known in self._hashes:
            found |= secrets.compare_digest(digest, known)
        return found


def _token(scope: Scope) -> bytes:
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = value.partition(b" ")
            return bytes(token.strip()) if scheme.lower() == b"bearer" else b""
    return b""


def _hash(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
