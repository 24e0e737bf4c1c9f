"""POST /v1/chat/completions/render and /v1/completions/render: from a request to what /inference/v1/generate takes.

Nothing is generated. What is wrong with a request is said here, as if it had been run.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from kvik.errors import InvalidRequestError
from kvik.server.body import read_model
from kvik.server.chat.prepare import in_chat_terms, prepare_chat
from kvik.server.chat.protocol import ChatCompletionRequest
from kvik.server.completions.protocol import CompletionRequest
from kvik.server.completions.serving import prepare_completion
from kvik.server.fields import GenerationFields
from kvik.server.generation import EngineCall
from kvik.server.request_id import engine_request_id, priority_of, request_id_base
from kvik.server.responses import json_response
from kvik.server.scale_out.protocol import sampling_params_as_given
from kvik.server.state import ServerState, state_of
from kvik.text.length_limits import check_token_count, resolve_max_tokens, truncate
from kvik.text.processor import TokenizedPrompt


async def render_chat(request: Request) -> Response:
    """One body for /inference/v1/generate."""
    state = state_of(request)
    body = await read_model(request, ChatCompletionRequest, state.limits)
    request_id = f"chatcmpl-{request_id_base(request, body.request_id, state.limits)}"
    try:
        chat = await prepare_chat(body, state, request_id, priority_of(request, body.priority))
        (token_ids,) = await prompt_ids(state, chat.call)
    except InvalidRequestError as error:
        raise in_chat_terms(error, body) from None
    return json_response(_generate_body(body, chat.model, chat.call, 0, token_ids))


async def render_completion(request: Request) -> Response:
    """A list of bodies for /inference/v1/generate, one per prompt."""
    state = state_of(request)
    body = await read_model(request, CompletionRequest, state.limits)
    request_id = f"cmpl-{request_id_base(request, body.request_id, state.limits)}"
    model, call = prepare_completion(body, state, request_id, priority_of(request, body.priority))
    prompts = await prompt_ids(state, call)
    return json_response([_generate_body(body, model, call, i, token_ids) for i, token_ids in enumerate(prompts)])


async def prompt_ids(state: ServerState, call: EngineCall) -> list[list[int]]:
    """The token ids that the engine would get, cut where that was asked for, one list per prompt."""
    max_model_len, options = state.client.facts.max_model_len, call.options
    found = []
    for prompt in await state.client.tokenize(call.prompts, options):
        ids = prompt.token_ids if isinstance(prompt, TokenizedPrompt) else prompt
        assert not isinstance(ids, str), "texts have been tokenized"
        limit, side = options.truncate_prompt_tokens, options.truncation_side
        ids = truncate(ids, limit, side, max_model_len, call.params.max_tokens)
        check_token_count(len(ids), max_model_len)
        resolve_max_tokens(call.params, len(ids), max_model_len)
        found.append(ids)
    return found


def _generate_body(
    body: GenerationFields, model: str, call: EngineCall, index: int, token_ids: list[int]
) -> dict[str, Any]:
    return {
        "request_id": engine_request_id(call.request_id, index, len(call.prompts)),
        "model": model,
        "token_ids": token_ids,
        "sampling_params": sampling_params_as_given(call.params),
        "stream": bool(body.stream),
        "stream_options": None if body.stream_options is None else body.stream_options.model_dump(),
        "cache_salt": call.cache_salt,
        "priority": call.priority,
    }
