"""POST /v1/chat/completions: from the body to an engine call, and back to a whole answer or a stream."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from kvik.errors import InvalidRequestError
from kvik.server.body import read_model
from kvik.server.chat.answer import ChatAnswer, chat_completion
from kvik.server.chat.prepare import PreparedChat, in_chat_terms, prepare_chat
from kvik.server.chat.protocol import ChatCompletionRequest
from kvik.server.chat.stream import ChatStream
from kvik.server.disconnect import unless_disconnected
from kvik.server.generation_start import start_generation
from kvik.server.request_id import priority_of, request_id_base
from kvik.server.request_log import RequestLog
from kvik.server.responses import json_response
from kvik.server.state import ServerState, state_of
from kvik.server.streaming import stream_response
from kvik.server.usage import stream_usage


async def create_chat_completion(request: Request) -> Response:
    """Answer a conversation. All that is wrong with it is said before a stream starts."""
    state = state_of(request)
    body = await read_model(request, ChatCompletionRequest, state.limits)
    request_id = f"chatcmpl-{request_id_base(request, body.request_id, state.limits)}"
    log = RequestLog(state.config)
    try:
        chat = await prepare_chat(body, state, request_id, priority_of(request, body.priority))
        generation = await start_generation(request, chat.call, log)
    except InvalidRequestError as error:
        raise in_chat_terms(error, body) from None
    context = answer_context(chat, state)
    if body.stream:
        writer = ChatStream(context, log, stream_usage(body.stream_options, state.config, body.return_timings))
        return stream_response(generation, writer, state.config.sse_keep_alive_interval)
    try:
        outputs = await unless_disconnected(request.receive, generation.collect())
    finally:
        await generation.close()
    for answer in outputs[0].outputs:
        log.generated(request_id, answer)
    return json_response(chat_completion(context, outputs[0]))


def answer_context(chat: PreparedChat, state: ServerState) -> ChatAnswer:
    """What the parts of the answer to a prepared conversation share."""
    return ChatAnswer(
        request=chat.body,
        request_id=chat.request_id,
        created_s=chat.created_s,
        model=chat.model,
        role=chat.role,
        prompt_text=chat.prompt_text,
        echo_text=chat.echo_text,
        choice=chat.use.choice,
        new_parser=None if chat.has_plain_answers else chat.new_parser,
        new_counter=chat.new_counter,
        fingerprint=state.fingerprint_of(chat.call.lora),
        as_token_ids=bool(chat.body.return_tokens_as_token_ids or state.config.return_tokens_as_token_ids),
        with_usage_details=state.config.enable_prompt_tokens_details,
        with_timings=state.config.enable_per_request_metrics,
    )
