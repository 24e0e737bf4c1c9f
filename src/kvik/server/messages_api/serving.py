"""POST /v1/messages and /v1/messages/count_tokens: from the body to an engine call, and back to an answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response

from kvik.errors import InvalidRequestError
from kvik.server.body import read_model
from kvik.server.chat.prepare import PreparedChat, prepare_chat
from kvik.server.disconnect import unless_disconnected
from kvik.server.errors import describe, is_foreseen
from kvik.server.generation import Generation
from kvik.server.generation_start import start_generation
from kvik.server.messages_api.answer import MessageContext, message
from kvik.server.messages_api.chat_request import in_messages_terms, to_chat_request
from kvik.server.messages_api.errors import error_body
from kvik.server.messages_api.protocol import ConversationFields, CountTokensRequest, MessagesRequest
from kvik.server.messages_api.stream import MessageStream, named_event
from kvik.server.request_id import priority_of, request_id_base
from kvik.server.request_log import RequestLog
from kvik.server.responses import EventStreamResponse, json_response
from kvik.server.state import ServerState, state_of
from kvik.telemetry.log import get_logger

logger = get_logger(__name__)


async def create_message(request: Request) -> Response:
    """Answer a conversation. All that is wrong with it is said before a stream starts."""
    state = state_of(request)
    body = await read_model(request, MessagesRequest, state.limits)
    request_id = f"chatcmpl-{request_id_base(request, body.request_id, state.limits)}"
    log = RequestLog(state.config)
    try:
        chat = await _prepare(body, state, request_id, priority_of(request, body.priority))
        generation = await start_generation(request, chat.call, log)
    except InvalidRequestError as error:
        raise in_messages_terms(error) from None
    context = _context(body, chat, state)
    if body.stream:
        events = _events(generation, MessageStream(context, log, chat.new_parser()))
        return EventStreamResponse(events, generation.close, state.config.sse_keep_alive_interval)
    try:
        output = (await unless_disconnected(request.receive, generation.collect()))[0]
    finally:
        await generation.close()
    log.generated(request_id, output.outputs[0])
    return json_response(message(context, output, chat.new_parser()))


async def count_tokens(request: Request) -> Response:
    """How many tokens the conversation has as a prompt. No limit on the length but that of the body."""
    state = state_of(request)
    body = await read_model(request, CountTokensRequest, state.limits)
    tokenizer = state.tokenizer
    try:
        chat = await _prepare(body, state, "count_tokens", 0)
    except InvalidRequestError as error:
        raise in_messages_terms(error) from None
    ids = await asyncio.to_thread(tokenizer.encode, chat.prompt_text, add_special_tokens=chat.body.add_special_tokens)
    return json_response({"input_tokens": len(ids), "context_management": {"original_input_tokens": len(ids)}})


async def _prepare(body: ConversationFields, state: ServerState, request_id: str, priority: int) -> PreparedChat:
    chat_request = to_chat_request(body, state.config.anthropic_disabled_thinking_effort)
    return await prepare_chat(chat_request, state, request_id, priority)


def _context(body: MessagesRequest, chat: PreparedChat, state: ServerState) -> MessageContext:
    return MessageContext(
        request_id=chat.request_id,
        model=chat.model,
        shows_thinking=body.thinking is None or body.thinking.display != "omitted",
        with_cached_tokens=state.config.enable_prompt_tokens_details,
        with_timings=body.return_timings,
    )


async def _events(generation: Generation, stream: MessageStream) -> AsyncIterator[bytes]:
    """Unlike chat's stream, the end is an event of its own and no [DONE], and errors have this API's shape."""
    try:
        async for batch in generation.batches():
            yield b"".join([stream.chunks(news) for news in batch])
    except Exception as error:  # the status is sent: what is left is an event
        info = describe(error)
        if info.is_ours:
            logger.error("a stream ended with an error: %s", error, exc_info=None if is_foreseen(error) else error)
        yield named_event(error_body(info))
