"""--api-key: who may use what acts. Every path is guarded unless it is one of the open ones.

A key comes as `Authorization: Bearer KEY` or, as some of Anthropic's clients send it, as `x-api-key: KEY`.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from kvik.server.error_shapes import refusal
from kvik.server.errors import describe_status
from kvik.server.middleware.paths import is_open, route_path

_REFUSED = "a valid API key is needed: send the header 'Authorization: Bearer KEY', or 'x-api-key: KEY'"


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
        response = refusal(scope, describe_status(401, _REFUSED), detail="Unauthorized", headers=headers)
        await response(scope, receive, send)

    def _may_pass(self, scope: Scope) -> bool:
        if scope["type"] == "http" and (scope["method"] == "OPTIONS" or is_open(route_path(scope))):
            return True
        return self._is_any_known(_tokens(scope))

    def _is_any_known(self, tokens: list[bytes]) -> bool:
        found = False
        for digest in map(_hash, tokens):
            for known in self._hashes:
                found |= secrets.compare_digest(digest, known)
        return found


def _tokens(scope: Scope) -> list[bytes]:
    """At most one per way to send a key: repeated headers do not multiply the guesses."""
    found: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = value.partition(b" ")
            found.setdefault(name, token.strip() if scheme.lower() == b"bearer" else b"")
        elif name == b"x-api-key":
            found.setdefault(name, value.strip())
    return list(found.values())


def _hash(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
