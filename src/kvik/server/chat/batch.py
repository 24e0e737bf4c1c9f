"""POST /v1/chat/completions/batch: several conversations, one answer to each, all in one response.

The conversations share every other field of a chat request, and run in the engine beside each other.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from kvik.config.limits import RequestLimits
from kvik.errors import InvalidRequestError
from kvik.server.body import read_model
from kvik.server.chat.answer import chat_completion
from kvik.server.chat.prepare import PreparedChat, in_chat_terms, prepare_chat
from kvik.server.chat.protocol import ChatCompletionRequest, Message
from kvik.server.chat.serving import answer_context
from kvik.server.disconnect import unless_disconnected
from kvik.server.generation import EngineCall
from kvik.server.generation_start import start_generation
from kvik.server.request_id import priority_of, request_id_base
from kvik.server.request_log import RequestLog
from kvik.server.responses import json_response
from kvik.server.state import ServerState, state_of
from kvik.server.usage import UsageCounter
from kvik.text.outputs import RequestOutput

_REFUSED = {
    "stream": "answers come together",
    "tools": "send such conversations to /v1/chat/completions, one by one",
    "tool_choice": "send such conversations to /v1/chat/completions, one by one",
    "use_beam_search": "send such conversations to /v1/chat/completions, one by one",
    "prompt_logprobs": "the answer has a place for one prompt's only",
    "return_prompt_text": "the answer has a place for one prompt's only",
}
"""Fields that must not ask for anything here, and what to do or why."""


class BatchChatCompletionRequest(ChatCompletionRequest):
    """Conversations to continue, each with one answer."""

    messages: list[list[Message]] = Field(  # type: ignore[assignment]
        description="conversations; the answer to the i-th is choice i"
    )


async def create_chat_completion_batch(request: Request) -> Response:
    """Answer all conversations, or none: what is wrong with one of them is said before anything runs."""
    state = state_of(request)
    body = await read_model(request, BatchChatCompletionRequest, state.limits)
    request_id = f"chatcmpl-{request_id_base(request, body.request_id, state.limits)}"
    _check_batch(body, state.limits)
    chats = [await _prepare(body, i, state, request_id, priority_of(request, body.priority)) for i in _indices(body)]
    log = RequestLog(state.config)
    call = _joint_call(chats)
    try:
        generation = await start_generation(request, call, log)
    except InvalidRequestError as error:
        raise in_chat_terms(error, body) from None
    try:
        outputs = await unless_disconnected(request.receive, generation.collect())
    finally:
        await generation.close()
    for output in outputs:
        log.generated(output.request_id, output.outputs[0])
    return json_response(_joint_answer(chats, outputs, state))


def _indices(body: BatchChatCompletionRequest) -> range:
    return range(len(body.messages))


def _check_batch(body: BatchChatCompletionRequest, limits: RequestLimits) -> None:
    if not body.messages:
        raise InvalidRequestError("messages must hold at least one conversation", param="messages")
    limits.check(len(body.messages), limits.max_prompts, "messages", "conversations")
    if body.n not in (None, 1):
        raise InvalidRequestError("n must be 1: a batch has one answer per conversation", param="n")
    for name, instead in _REFUSED.items():
        if getattr(body, name) not in (None, False, [], "none"):
            raise InvalidRequestError(f"{name} is not possible in a batch: {instead}", param=name)


async def _prepare(
    body: BatchChatCompletionRequest, index: int, state: ServerState, request_id: str, priority: int
) -> PreparedChat:
    fields = body.__dict__ | {"messages": body.messages[index]}
    one = ChatCompletionRequest.model_construct(body.model_fields_set, **fields)
    try:
        return await prepare_chat(one, state, request_id, priority)
    except InvalidRequestError as error:
        raise _in_batch_terms(in_chat_terms(error, one), index) from None


def _in_batch_terms(error: InvalidRequestError, index: int) -> InvalidRequestError:
    """`messages.2` of a conversation is `messages.INDEX.2` of the batch."""
    param = error.param or ""
    if param.split(".")[0] != "messages":
        return error
    where = f"messages.{index}" + param.removeprefix("messages")
    return InvalidRequestError(error.message.replace(param, where, 1), param=where)


def _joint_call(chats: list[PreparedChat]) -> EngineCall:
    return replace(chats[0].call, prompts=[prompt for chat in chats for prompt in chat.call.prompts])


def _joint_answer(chats: list[PreparedChat], outputs: list[RequestOutput], state: ServerState) -> dict[str, Any]:
    usage = UsageCounter(state.config.enable_prompt_tokens_details, chats[0].body.return_timings)
    choices: list[dict[str, Any]] = []
    for i, (chat, output) in enumerate(zip(chats, outputs, strict=True)):
        whole = chat_completion(answer_context(chat, state), output)
        choices.append(whole["choices"][0] | {"index": i})
        usage.add(i, output, 1)
    nothing = {"prompt_token_ids": None, "metrics": None}
    return whole | nothing | {"choices": choices, "usage": usage.total()}
