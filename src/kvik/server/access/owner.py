"""On whose behalf a request runs: the name of its key, for logs and fair share. Knows no key."""

from __future__ import annotations

from starlette.types import Scope

ANONYMOUS = "anonymous"
"""Who needed no key."""
ADMIN_UDS = "admin-uds"
"""Who came through the admin socket."""
_FIELD = "kvik.owner"
_ADMIN_FIELD = "kvik.is_admin"


def owner_of(scope: Scope) -> str:
    """The name of the key that the request came with. Never the key."""
    owner: str = scope.get(_FIELD, ANONYMOUS)
    return owner


def is_admin(scope: Scope) -> bool:
    """Whether the request may do to others' requests what their owners may."""
    return bool(scope.get(_ADMIN_FIELD, False))


def set_owner(scope: Scope, name: str, *, is_admin: bool) -> None:
    """To be called by the middleware that has checked it."""
    scope[_FIELD] = name
    scope[_ADMIN_FIELD] = is_admin
