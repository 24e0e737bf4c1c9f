"""POST /v1/completions: from the body to engine calls, and back to a whole answer or a stream."""

from __future__ import annotations

import time

from starlette.requests import Request
from starlette.responses import Response

from kvik.sampling_params import SamplingParams
from kvik.server.body import read_model
from kvik.server.completions.answer import CompletionAnswer, completion
from kvik.server.completions.protocol import (
    DEFAULT_MAX_TOKENS,
    CompletionRequest,
    check_completion_request,
    read_prompts,
)
from kvik.server.completions.stream import CompletionStream
from kvik.server.disconnect import unless_disconnected
from kvik.server.engine_call import to_engine_call
from kvik.server.fields import to_sampling_params
from kvik.server.generation import EngineCall
from kvik.server.generation_start import start_generation
from kvik.server.request_id import priority_of, request_id_base
from kvik.server.request_log import RequestLog
from kvik.server.responses import json_response
from kvik.server.state import ServerState, state_of
from kvik.server.streaming import stream_response
from kvik.server.usage import stream_usage


async def create_completion(request: Request) -> Response:
    """Continue one or several prompts. All that is wrong with them is said before a stream starts."""
    state = state_of(request)
    body = await read_model(request, CompletionRequest, state.limits)
    request_id = f"cmpl-{request_id_base(request, body.request_id, state.limits)}"
    model, call = prepare_completion(body, state, request_id, priority_of(request, body.priority))
    log = RequestLog(state.config)
    context = answer_context(body, state, call, model)
    generation = await start_generation(request, call, log)
    if body.stream:
        writer = CompletionStream(context, log, stream_usage(body.stream_options, state.config, body.return_timings))
        return stream_response(generation, writer, state.config.sse_keep_alive_interval)
    try:
        outputs = await unless_disconnected(request.receive, generation.collect())
    finally:
        await generation.close()
    for output in outputs:
        for answer in output.outputs:
            log.generated(request_id, answer)
    return json_response(completion(context, outputs))


def prepare_completion(
    body: CompletionRequest, state: ServerState, request_id: str, priority: int
) -> tuple[str, EngineCall]:
    """The model's name for the answer, and what the engine is told. Raises `RequestError` naming the field."""
    model, lora = state.check_model(body.model), state.lora_of(body.model)
    check_completion_request(body, state.limits)
    prompts = read_prompts(body.prompt, state.limits)
    params = _sampling_params(body, state)
    return model, to_engine_call(body, prompts, params, state.limits, request_id, priority, lora)


def _sampling_params(body: CompletionRequest, state: ServerState) -> SamplingParams:
    max_tokens = state.cap_max_tokens(DEFAULT_MAX_TOKENS if body.max_tokens is None else body.max_tokens)
    wants_prompt_logprobs = body.echo and body.prompt_logprobs is None
    return to_sampling_params(
        body,
        state.config.default_sampling_params,
        max_tokens=1 if body.echoes_only else max_tokens,
        logprobs=body.logprobs,
        prompt_logprobs=body.logprobs if wants_prompt_logprobs else body.prompt_logprobs,
    )


def answer_context(body: CompletionRequest, state: ServerState, call: EngineCall, model: str) -> CompletionAnswer:
    """What the parts of the answer to a completion request share."""
    # An echo names the prompt's tokens; nothing else here needs a tokenizer.
    decode = state.tokenizer.decode if body.echo else None
    return CompletionAnswer(
        request=body,
        request_id=call.request_id,
        created_s=int(time.time()),
        model=model,
        decode=lambda ids: "" if decode is None else decode(ids, skip_special_tokens=False),
        num_prompts=len(call.prompts),
        fingerprint=state.fingerprint_of(call.lora),
        as_token_ids=bool(body.return_tokens_as_token_ids or state.config.return_tokens_as_token_ids),
        with_usage_details=state.config.enable_prompt_tokens_details,
        with_timings=state.config.enable_per_request_metrics,
    )
