"""What can be wrong with a response that is asked for by its id, and with asking for too many. Statuses only."""

from __future__ import annotations

from kvik.errors import QueueFullError, RequestError


class UnknownResponseError(RequestError):
    """No such response, or item, is stored here; or not any more."""

    status = 404
    type = "invalid_request_error"


class TooManyResponsesError(QueueFullError):
    """As many responses are made in the background as may be."""
