"""On whose behalf a request runs: the name of its key, for logs and fair share. Knows no key."""

from __future__ import annotations

from starlette.types import Scope

ANONYMOUS = "anonymous"
"""Who needed no key."""
ADMIN_UDS = "admin-uds"
"""Who came through the admin socket."""
_FIELD = "kvik.owner"


def owner_of(scope: Scope) -> str:
    """The name of the key that the request came with. Never the key."""
    owner: str = scope.get(_FIELD, ANONYMOUS)
    return owner


def set_owner(scope: Scope, name: str) -> None:
    """To be called by the middleware that has checked it."""
    scope[_FIELD] = name
