"""POST /v1/chat/completions/derender and /v1/completions/derender: a request and its token ids -> its whole answer.

What /inference/v1/generate answered comes back with the request that was rendered, and becomes the answer that the
request would have had here.
"""

from __future__ import annotations

import re
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from kvik.errors import InvalidRequestError
from kvik.messages import FinishReason, TokenLogprobs
from kvik.server.body import read_model
from kvik.server.chat.answer import chat_completion
from kvik.server.chat.prepare import in_chat_terms, prepare_chat
from kvik.server.chat.serving import answer_context as chat_context
from kvik.server.completions.answer import completion
from kvik.server.completions.serving import answer_context as completion_context
from kvik.server.completions.serving import prepare_completion
from kvik.server.generation import EngineCall
from kvik.server.request_id import request_id_base
from kvik.server.responses import json_response
from kvik.server.scale_out.protocol import (
    DerenderChatRequest,
    DerenderCompletionRequest,
    GenerateAnswer,
    GeneratedChoice,
)
from kvik.server.scale_out.render import prompt_ids
from kvik.server.state import ServerState, state_of
from kvik.text.outputs import Logprob, PositionLogprobs, RequestOutput
from kvik.text.replay import GivenAnswer, replay
from kvik.text.vocabulary_checks import check_token_ids

_TOKEN_NAME = re.compile(r"token_id:(\d{1,9})")


async def derender_chat(request: Request) -> Response:
    state = state_of(request)
    body = await read_model(request, DerenderChatRequest, state.limits)
    base = _known_id(body.response, "chatcmpl-") or request_id_base(request, body.request.request_id, state.limits)
    try:
        chat = await prepare_chat(body.request, state, f"chatcmpl-{base}", 0)
        (token_ids,) = await prompt_ids(state, chat.call)
    except InvalidRequestError as error:
        raise in_chat_terms(error, body.request) from None
    output = _output(state, chat.call, chat.prompt_text, token_ids, body.response, "response")
    return json_response(chat_completion(chat_context(chat, state), output))


async def derender_completion(request: Request) -> Response:
    state = state_of(request)
    body = await read_model(request, DerenderCompletionRequest, state.limits)
    base = request_id_base(request, body.request.request_id, state.limits)
    model, call = prepare_completion(body.request, state, f"cmpl-{base}", 0)
    if len(body.responses) != len(call.prompts):
        raise InvalidRequestError(
            f"there must be a response for each of the {len(call.prompts)} prompts, got {len(body.responses)}",
            param="responses",
        )
    given = zip(call.prompts, await prompt_ids(state, call), body.responses, strict=True)
    outputs = [
        _output(state, call, prompt if isinstance(prompt, str) else None, ids, response, f"responses.{i}")
        for i, (prompt, ids, response) in enumerate(given)
    ]
    context = completion_context(body.request, state, call, model)
    return json_response(completion(context, outputs))


def _output(
    state: ServerState, call: EngineCall, text: str | None, token_ids: list[int], response: GenerateAnswer, where: str
) -> RequestOutput:
    indices = [choice.index for choice in response.choices]
    if sorted(indices) != list(range(call.params.n)):
        raise InvalidRequestError(
            f"{where}.choices must have the indices 0 to n - 1 = {call.params.n - 1}, once each, got {indices[:20]}",
            param=f"{where}.choices",
        )
    choices = sorted(response.choices, key=lambda choice: choice.index)
    vocab_size = state.client.config.model.spec.vocab_size
    answers = [_given(choice, vocab_size, f"{where}.choices") for choice in choices]
    output = replay(state.tokenizer, text, token_ids, call.params, answers)
    output.prompt_logprobs = _prompt_logprobs(response, call, len(token_ids), where)
    return output


def _prompt_logprobs(
    response: GenerateAnswer, call: EngineCall, num_prompt_tokens: int, where: str
) -> list[PositionLogprobs | None] | None:
    """One position per prompt token where the request asked for them."""
    if call.params.prompt_logprobs is None:
        return None
    given = response.prompt_logprobs
    if given is None or len(given) != num_prompt_tokens:
        raise InvalidRequestError(
            f"{where}.prompt_logprobs must have an entry for each of the {num_prompt_tokens} prompt tokens",
            param=f"{where}.prompt_logprobs",
        )
    return [
        None if position is None else {i: Logprob(p.logprob, p.rank, p.decoded_token) for i, p in position.items()}
        for position in given
    ]


def _given(choice: GeneratedChoice, vocab_size: int, where: str) -> GivenAnswer:
    check_token_ids(where, choice.token_ids, vocab_size)
    return GivenAnswer(
        choice.index,
        choice.token_ids,
        FinishReason[choice.finish_reason.upper()],
        choice.stop_reason,
        _logprobs(choice, vocab_size, where),
    )


def _logprobs(choice: GeneratedChoice, vocab_size: int, where: str) -> list[TokenLogprobs] | None:
    if choice.logprobs is None:
        return None
    content = choice.logprobs.get("content")
    if not isinstance(content, list) or len(content) != len(choice.token_ids):
        raise InvalidRequestError(f"{where}: logprobs.content must have an entry per token id", param=where)
    try:
        found = [_position(entry) for entry in content]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InvalidRequestError(
            f"{where}: entries of logprobs.content must be as /inference/v1/generate gives them with "
            "output_mode=tokens: {token: 'token_id:N', logprob, top_logprobs}",
            param=where,
        ) from None
    for position in found:
        check_token_ids(where, position.token_ids, vocab_size)
    return found


def _position(entry: Any) -> TokenLogprobs:
    """The chosen token first, the others in their order; the first of them is the likeliest, whoever was chosen."""
    pairs = [_id_and_logprob(one) for one in (entry, *entry.get("top_logprobs", ()))]
    by_id = dict(reversed(pairs))
    by_id = {token_id: by_id[token_id] for token_id, _ in pairs}
    order = sorted(by_id, key=lambda token_id: -by_id[token_id])
    ranks = [order.index(token_id) + 1 for token_id in by_id]
    return TokenLogprobs(list(by_id), list(by_id.values()), ranks)


def _id_and_logprob(entry: Any) -> tuple[int, float]:
    name = _TOKEN_NAME.fullmatch(entry["token"])
    logprob = entry["logprob"]
    if name is None or type(logprob) not in (int, float):
        raise ValueError
    return int(name.group(1)), float(logprob)


def _known_id(response: GenerateAnswer, prefix: str) -> str | None:
    """The base of the id under which the request was generated."""
    request_id = response.request_id or ""
    is_ours = request_id.startswith(prefix) and len(request_id) <= 128 and request_id.isascii()
    return request_id.removeprefix(prefix) if is_ours and request_id.isprintable() else None
