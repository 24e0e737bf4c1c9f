"""Which route speaks which shape of errors. The one place where a failure's path matters."""

from __future__ import annotations

from starlette.responses import Response
from starlette.types import Scope

from kvik.server.errors import ErrorInfo
from kvik.server.messages_api.errors import error_body, speaks_messages
from kvik.server.middleware.paths import route_path
from kvik.server.responses import error_response


def refusal(
    scope: Scope, info: ErrorInfo, *, detail: str | None = None, headers: dict[str, str] | None = None
) -> Response:
    """The answer to a request that failed; `detail` is what the framework would have sent alone."""
    if speaks_messages(route_path(scope)):
        return error_response(info, body=error_body(info), headers=headers)
    return error_response(info, detail=detail, headers=headers)
