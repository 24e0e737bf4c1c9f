"""The id of a request: the client's, or ours. Knows only headers.

Each request has one from its first moment (`middleware/request_id.py`); a body may still name another.
"""

from __future__ import annotations

import uuid

from starlette.requests import Request

from kvik.config.limits import RequestLimits
from kvik.errors import InvalidRequestError
from kvik.telemetry.log import mark_request

HEADER = "X-Request-Id"
SCOPE_KEY = "kvik.request_id"
"""In the ASGI scope."""


def request_id_base(request: Request, in_body: str | None, limits: RequestLimits) -> str:
    """X-Request-Id, or `request_id` of the body, or the 16 random hex characters that the request has been given.

    Raises `InvalidRequestError` for ids that would spoil a header or a log line.
    """
    header = request.headers.get(HEADER)
    base = header or in_body
    if not base:
        return str(request.scope.get(SCOPE_KEY) or new_request_id())
    if len(base) > limits.max_request_id_chars or not (base.isascii() and base.isprintable()):
        raise InvalidRequestError(
            f"a request id may have {limits.max_request_id_chars} printable ASCII characters",
            param=HEADER if header else "request_id",
        )
    mark_request(base)
    return base


def new_request_id() -> str:
    return uuid.uuid4().hex[:16]


def engine_request_id(request_id: str, prompt_index: int, num_prompts: int) -> str:
    """The id of one prompt of a request. Need not be unique: a client may send the same id twice."""
    return request_id if num_prompts == 1 else f"{request_id}-{prompt_index}"


def priority_of(request: Request, in_body: int | None) -> int:
    """X-Vllm-Priority, if it is an integer of 64 bits, or `priority` of the body."""
    header = request.headers.get("X-Vllm-Priority", "")
    digits = header.removeprefix("-")
    if digits.isascii() and digits.isdecimal() and len(digits) < 19:
        return int(header)
    return in_body or 0
