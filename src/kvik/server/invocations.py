"""POST /invocations: one door for conversations and prompts, as hosting platforms want it."""

from __future__ import annotations

import asyncio

from pydantic import ConfigDict
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from kvik.server.body import check_content_type, decode, read_body
from kvik.server.chat.serving import create_chat_completion
from kvik.server.completions.serving import create_completion
from kvik.server.errors import BodyTooSlowError, InvalidBodyError
from kvik.server.state import state_of
from kvik.server.validation import RequestModel


class InvocationRequest(RequestModel):
    """The body of /v1/chat/completions, which has `messages`, or that of /v1/completions, which has `prompt`."""

    model_config = ConfigDict(extra="allow")


async def invocations(request: Request) -> Response:
    """As the route of the first kind of request that the body is. Raises `InvalidBodyError` where it is none."""
    limits = state_of(request).limits
    check_content_type(request.headers.get("content-type"))
    try:
        body = await asyncio.wait_for(read_body(request, limits.max_body_bytes), limits.max_body_read_s)
    except TimeoutError:
        raise BodyTooSlowError(f"the body must come within {limits.max_body_read_s:g} seconds") from None
    content = decode(body, limits.max_json_depth)
    if isinstance(content, dict):
        for field, handler in (("messages", create_chat_completion), ("prompt", create_completion)):
            if content.get(field) is not None:
                return await handler(_with_body(request, body))
    raise InvalidBodyError(
        "the body is no request of this server; give messages, as to /v1/chat/completions, or a prompt, as to "
        "/v1/completions",
        param="body",
    )


def _with_body(request: Request, body: bytes) -> Request:
    """The request as it was before its body was read; what comes after the body, a disconnect, still comes."""
    unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return unread.pop() if unread else await request.receive()

    return Request(request.scope, receive)
