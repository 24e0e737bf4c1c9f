"""POST /v1/chat/completions: from the body to an engine call, and back to a whole answer or a stream."""

from __future__ import annotations

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from kvik.errors import InvalidRequestError
from kvik.sampling_params import SamplingParams
from kvik.server.body import read_model
from kvik.server.chat.answer import ChatAnswer, chat_completion
from kvik.server.chat.prompt import echo_text, render_prompt, response_role
from kvik.server.chat.protocol import ChatCompletionRequest, check_chat_request
from kvik.server.chat.stream import ChatStream
from kvik.server.disconnect import unless_disconnected
from kvik.server.engine_call import to_engine_call
from kvik.server.fields import to_sampling_params
from kvik.server.generation import EngineCall, Generation
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
    model = state.check_model(body.model)
    check_chat_request(body, state.limits)
    request_id = f"chatcmpl-{request_id_base(request, body.request_id, state.limits)}"
    prompt = await render_prompt(body, state)
    log = RequestLog(state.config)
    context = _context(body, state, request_id, model, prompt)
    try:
        call = _engine_call(body, state, prompt, request_id, priority_of(request, body.priority))
        log.received(call)
        generation = await Generation.start(state.client, call)
    except InvalidRequestError as error:
        raise _in_chat_terms(error, body) from None
    if body.stream:
        writer = ChatStream(context, log, stream_usage(body.stream_options, state.config))
        return stream_response(generation, writer, state.config.sse_keep_alive_interval)
    try:
        outputs = await unless_disconnected(request.receive, generation.collect())
    finally:
        await generation.close()
    for answer in outputs[0].outputs:
        log.generated(request_id, answer)
    return json_response(chat_completion(context, outputs[0]))


def _engine_call(
    body: ChatCompletionRequest, state: ServerState, prompt: str, request_id: str, priority: int
) -> EngineCall:
    params = _sampling_params(body, state.config.default_sampling_params)
    return to_engine_call(body, [prompt], params, state.limits, request_id, priority)


def _sampling_params(body: ChatCompletionRequest, defaults: dict[str, Any]) -> SamplingParams:
    max_tokens = body.asked_max_tokens
    echoes_logprobs = body.echo and not body.stream and body.prompt_logprobs is None
    return to_sampling_params(
        body,
        defaults,
        max_tokens=defaults.get("max_tokens") if max_tokens is None else max_tokens,
        logprobs=body.num_logprobs,
        prompt_logprobs=body.num_logprobs if echoes_logprobs else body.prompt_logprobs,
    )


def _in_chat_terms(error: InvalidRequestError, body: ChatCompletionRequest) -> InvalidRequestError:
    """The client said `top_logprobs` and perhaps `max_completion_tokens`: name what it said."""
    names = {"logprobs": "top_logprobs"}
    if body.max_completion_tokens is not None:
        names["max_tokens"] = "max_completion_tokens"
    name = names.get(error.param or "")
    if name is None or error.param is None:
        return error
    return InvalidRequestError(error.message.replace(error.param, name, 1), param=name)


def _context(body: ChatCompletionRequest, state: ServerState, request_id: str, model: str, prompt: str) -> ChatAnswer:
    role = response_role(body, state.config.response_role)
    return ChatAnswer(
        request=body,
        request_id=request_id,
        created_s=int(time.time()),
        model=model,
        role=role,
        prompt_text=prompt,
        echo_text=echo_text(body, role),
        fingerprint=state.fingerprint,
        as_token_ids=bool(body.return_tokens_as_token_ids or state.config.return_tokens_as_token_ids),
        with_usage_details=state.config.enable_prompt_tokens_details,
        with_timings=state.config.enable_per_request_metrics,
    )
