"""Whose an HTTP request is and how long it may take; and in its answer, how it waited. Knows headers only."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import cast

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kvik.engine_client.admission.ticket import Ticket
from kvik.errors import InvalidRequestError
from kvik.server.access import owner as access_owner
from kvik.server.middleware.paths import GENERATION_PATHS, route_path

TIMEOUT_HEADER = "X-Request-Timeout"
POSITION_HEADER = "x-kvik-queue-position"
REASON_HEADER = "x-kvik-waiting-for"
MOST_TIMEOUT_S = 86400.0
_SCOPE_KEY = "kvik.ticket"


class TicketMiddleware:
    """Gives each request its ticket, and its answer the headers that tell of the wait. A flood costs as little as it
    can: who would be refused whatever it asks is refused here, unread, by what `check_hope` raises."""

    def __init__(self, app: ASGIApp, check_hope: Callable[[Ticket], None], fair_share_header: str | None) -> None:
        self.app = app
        self._check_hope = check_hope
        self._fair_share_header = fair_share_header

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        timeout_s = read_timeout(headers.get(TIMEOUT_HEADER))
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        owner = owner_of(scope, headers, self._fair_share_header)
        ticket = scope[_SCOPE_KEY] = Ticket(owner=owner, caller=access_owner.owner_of(scope), deadline_s=deadline_s)
        if route_path(scope) in GENERATION_PATHS:
            self._check_hope(ticket)

        async def telling_send(message: Message) -> None:
            if message["type"] == "http.response.start" and ticket.position is not None:
                _tell(MutableHeaders(raw=message["headers"]), ticket)
            await send(message)

        await self.app(scope, receive, telling_send)


def ticket_of(request: Request) -> Ticket | None:
    return cast("Ticket | None", request.scope.get(_SCOPE_KEY))


def owner_of(scope: Scope, headers: Headers, fair_share_header: str | None) -> str:
    """Who shares the engine fairly with others: a digest of the header's value, else the name of the key; where no
    keys are checked, a digest of what was given as one; "" for all others."""
    if fair_share_header is not None:
        secret = headers.get(fair_share_header, "")
    elif (name := access_owner.owner_of(scope)) != access_owner.ANONYMOUS:
        return name
    else:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        secret = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
    return hashlib.sha256(secret.encode("latin-1")).hexdigest()[:16] if secret else ""


def read_timeout(header: str | None) -> float | None:
    """Seconds. Raises `InvalidRequestError` for what is no number of them."""
    if header is None:
        return None
    try:
        timeout_s = float(header) if header.isascii() else float("nan")
    except ValueError:
        timeout_s = float("nan")
    if not 0 < timeout_s <= MOST_TIMEOUT_S:
        raise InvalidRequestError(
            f"{TIMEOUT_HEADER} takes seconds, more than 0 and at most {MOST_TIMEOUT_S:.0f}, got {header[:50]!r}",
            param=TIMEOUT_HEADER,
        )
    return timeout_s


def _tell(headers: MutableHeaders, ticket: Ticket) -> None:
    headers[POSITION_HEADER] = str(ticket.position)
    if ticket.waiting_for is not None:
        headers[REASON_HEADER] = ticket.waiting_for
