"""From a request's bytes to JSON: content type, size, time, syntax, depth. Knows no endpoint and no field."""

from __future__ import annotations

import asyncio
import re
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request

from kvik.config.limits import RequestLimits
from kvik.server.errors import BodyTooLargeError, BodyTooSlowError, ClientDisconnectedError, InvalidBodyError
from kvik.server.validation import RequestModel, validate

M = TypeVar("M", bound=RequestModel)


async def read_model(request: Request, model: type[M], limits: RequestLimits) -> M:
    """The request's JSON body as a `model`. Raises `InvalidBodyError`, `BodyTooLargeError`, `BodyTooSlowError`."""
    check_content_type(request.headers.get("content-type"))
    try:
        body = await asyncio.wait_for(read_body(request, limits.max_body_bytes), limits.max_body_read_s)
    except TimeoutError:
        raise BodyTooSlowError(f"the body must come within {limits.max_body_read_s:g} seconds") from None
    return validate(decode(body, limits.max_json_depth), model)


def check_content_type(content_type: str | None) -> None:
    kind = (content_type or "").split(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise InvalidBodyError(f"the content type must be application/json, got {kind[:100] or 'none'}")


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The whole body, never more than `max_bytes` of it in memory."""
    too_large = BodyTooLargeError(f"the body may have at most {max_bytes} bytes; split the request")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and len(announced) < 20 and int(announced) > max_bytes:
        raise too_large
    parts: list[bytes] = []
    num_bytes = 0
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnectedError
        part = message.get("body", b"")
        num_bytes += len(part)
        if num_bytes > max_bytes:
            raise too_large
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def decode(body: bytes, max_depth: int) -> Any:
    """Strict JSON: no NaN, no lone surrogates, integers of at most 64 bits, nesting of at most `max_depth`."""
    try:
        content = msgspec.json.decode(body)
    except RecursionError:
        raise _too_deep(max_depth) from None
    except msgspec.DecodeError as error:
        raise _malformed(str(error), len(body)) from None
    except UnicodeDecodeError as error:
        raise _malformed("the body is not UTF-8", error.start) from None
    # So many brackets are needed for so many levels: most bodies need no walk.
    if body.count(b"[") + body.count(b"{") > max_depth:
        _check_depth(content, max_depth)
    return content


def _malformed(reason: str, num_bytes: int) -> InvalidBodyError:
    at = re.search(r"\(byte (\d+)\)", reason)
    loc = f"body.{at.group(1) if at else num_bytes}"
    return InvalidBodyError(f"the body is not valid JSON: {reason}", param=loc)


def _too_deep(max_depth: int) -> InvalidBodyError:
    return InvalidBodyError(f"JSON may be nested at most {max_depth} levels deep", param="body")


def _check_depth(content: Any, max_depth: int) -> None:
    level = [content]
    for _ in range(max_depth):
        nested: list[Any] = []
        for value in level:
            items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
            nested.extend(item for item in items if isinstance(item, dict | list))
        if not nested:
            return
        level = nested
    raise _too_deep(max_depth)
