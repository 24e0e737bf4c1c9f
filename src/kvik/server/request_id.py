"""The id of a request: the client's, or ours. Knows only headers."""

from __future__ import annotations

import uuid

from starlette.requests import Request

from kvik.config.limits import RequestLimits
from kvik.errors import InvalidRequestError

HEADER = "X-Request-Id"


def request_id_base(request: Request, in_body: str | None, limits: RequestLimits) -> str:
    """X-Request-Id, or `request_id` of the body, or 16 random hex characters.

    Raises `InvalidRequestError` for ids that would spoil a header or a log line.
    """
    header = request.headers.get(HEADER)
    base = header or in_body
    if not base:
        return uuid.uuid4().hex[:16]
    if len(base) > limits.max_request_id_chars or not (base.isascii() and base.isprintable()):
        raise InvalidRequestError(
            f"a request id may have {limits.max_request_id_chars} printable ASCII characters",
            param=HEADER if header else "request_id",
        )
    return base


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
