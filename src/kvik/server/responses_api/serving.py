"""POST /v1/responses: from the body to an engine call, and back to a whole response, a stream or a queued response."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import cast

from starlette.requests import Request
from starlette.responses import Response

from kvik.errors import InvalidRequestError
from kvik.server.access.owner import owner_of
from kvik.server.body import read_model
from kvik.server.chat.prepare import PreparedChat
from kvik.server.disconnect import unless_disconnected
from kvik.server.generation import Generation
from kvik.server.generation_start import start_generation
from kvik.server.request_id import priority_of
from kvik.server.request_log import RequestLog
from kvik.server.responses import EventStreamResponse, json_response
from kvik.server.responses_api.answer import ResponseFacts
from kvik.server.responses_api.convert import Wishes, in_own_terms
from kvik.server.responses_api.errors import UnknownResponseError
from kvik.server.responses_api.events import EventLog, EventSink, NoEvents
from kvik.server.responses_api.fit import prepare_items
from kvik.server.responses_api.ids import new_id
from kvik.server.responses_api.input_items import Item, check_outputs, read_input
from kvik.server.responses_api.protocol import ResponsesRequest, check_request
from kvik.server.responses_api.run import ResponseRun
from kvik.server.responses_api.store import OwnResponses, ResponseStore, StoredResponse
from kvik.server.responses_api.writer import ResponseWriter
from kvik.server.state import ServerState, state_of
from kvik.text.parsing import AnswerParser


@dataclass(frozen=True, slots=True)
class _Accepted:
    """A request whose generation runs."""

    body: ResponsesRequest
    earlier: list[Item]
    input: list[Item]
    facts: ResponseFacts
    parser: AnswerParser
    generation: Generation
    log: RequestLog


def responses_of(request: Request) -> OwnResponses:
    """What the caller sees of the store."""
    return cast(ResponseStore, request.app.state.responses).of(owner_of(request.scope))


async def create_response(request: Request) -> Response:
    """Continue a conversation. All that is wrong with it is said before a stream starts."""
    state, own = state_of(request), responses_of(request)
    body = await read_model(request, ResponsesRequest, state.limits)
    accepted = await _accept(body, request, state, own)
    if body.background:
        return await _in_background(accepted, state, own)
    if body.stream:
        return _streamed(accepted, state, own)
    return await _whole(accepted, request, state, own)


async def count_input_tokens(request: Request) -> Response:
    """How many tokens the conversation has as a prompt; nothing is generated."""
    state, own = state_of(request), responses_of(request)
    body = await read_model(request, ResponsesRequest, state.limits)
    check_request(body)
    earlier = _earlier_items(body, own)
    items = read_input(body.input, own.find_item, state.limits)
    check_outputs([*earlier, *items], len(earlier))
    try:
        chat = await prepare_items(body, Wishes.of(body), [*earlier, *items], state, "input_tokens", 0)
    except InvalidRequestError as error:
        raise in_own_terms(error) from None
    ids = await asyncio.to_thread(state.tokenizer.encode, chat.prompt_text, chat.body.add_special_tokens)
    return json_response({"object": "response.input_tokens", "input_tokens": len(ids)})


async def _accept(body: ResponsesRequest, request: Request, state: ServerState, own: OwnResponses) -> _Accepted:
    """Raises `RequestError` for all that a client can have done wrong."""
    check_request(body)
    _check_store(body, own)
    wishes = Wishes.of(body)
    earlier = _earlier_items(body, own)
    items = read_input(body.input, own.find_item, state.limits)
    check_outputs([*earlier, *items], len(earlier))
    response_id = body.request_id or new_id("resp")
    log = RequestLog(state.config)
    try:
        chat = await prepare_items(
            body, wishes, [*earlier, *items], state, response_id, priority_of(request, body.priority)
        )
        facts, parser = _facts(body, wishes, chat, state), chat.new_parser()
        generation = await start_generation(request, chat.call, log)
    except InvalidRequestError as error:
        raise in_own_terms(error) from None
    return _Accepted(body, earlier, items, facts, parser, generation, log)


def _check_store(body: ResponsesRequest, own: OwnResponses) -> None:
    if body.background and not own.store.keeps:
        raise InvalidRequestError(
            "background=true needs a store, and this server has none (--max-stored-responses 0)", param="background"
        )
    if body.background:
        own.store.check_room_in_background()
    if body.request_id is not None and body.request_id in own:
        raise InvalidRequestError(
            f"request_id {body.request_id!r} is the id of a stored response; leave it out, or choose another",
            param="request_id",
        )


def _earlier_items(body: ResponsesRequest, own: OwnResponses) -> list[Item]:
    if body.previous_response_id is None:
        return []
    if not own.store.keeps:
        raise UnknownResponseError(
            "this server stores no responses (--max-stored-responses 0); send all items of the conversation as input",
            param="previous_response_id",
        )
    previous = own.get(body.previous_response_id, "previous_response_id")
    if previous.run is not None:
        raise InvalidRequestError(
            f"the response {previous.id} is still being made; wait until it has ended", param="previous_response_id"
        )
    return previous.conversation


def _facts(body: ResponsesRequest, wishes: Wishes, chat: PreparedChat, state: ServerState) -> ResponseFacts:
    has_prefix_cache = state.client.config.cache.enable_prefix_caching
    return ResponseFacts(
        id=chat.request_id,
        request=body,
        wishes=wishes,
        params=chat.call.params,
        model=chat.model,
        created_s=chat.created_s,
        max_model_len=state.client.facts.max_model_len,
        block_size=state.client.facts.block_size if has_prefix_cache else 0,
        as_token_ids=state.config.return_tokens_as_token_ids,
    )


def _writer(accepted: _Accepted, state: ServerState, sink: EventSink) -> ResponseWriter:
    def count_tokens(text: str) -> int:
        return len(state.tokenizer.encode(text, False))

    return ResponseWriter(accepted.facts, accepted.parser, sink, count_tokens)


def _stored(accepted: _Accepted, writer: ResponseWriter, own: OwnResponses, events: EventLog | None) -> StoredResponse:
    return StoredResponse(
        owner=own.owner,
        id=accepted.facts.id,
        earlier=accepted.earlier,
        input=accepted.input,
        body=writer.body(),
        created_s=own.store.clock(),
        events=events,
    )


async def _whole(accepted: _Accepted, request: Request, state: ServerState, own: OwnResponses) -> Response:
    writer = _writer(accepted, state, NoEvents())
    writer.start()
    try:
        outputs = await unless_disconnected(request.receive, accepted.generation.collect())
    except InvalidRequestError as error:  # a grammar that nothing can follow any further
        raise in_own_terms(error) from None
    finally:
        await accepted.generation.close()
    for answer in outputs[0].outputs:
        accepted.log.generated(accepted.facts.id, answer)
    writer.push(outputs[0])
    if accepted.body.is_stored and own.store.keeps:
        own.store.add(_stored(accepted, writer, own, None))
    return json_response(writer.body())


def _streamed(accepted: _Accepted, state: ServerState, own: OwnResponses) -> Response:
    """What the client leaves before its end is not stored."""
    is_stored = accepted.body.is_stored and own.store.keeps
    events = EventLog(keeps=is_stored)
    writer = _writer(accepted, state, events)

    def keep() -> None:
        if is_stored:
            own.store.add(_stored(accepted, writer, own, events))

    run = ResponseRun(accepted.generation, writer, events, accepted.log, keep)
    return EventStreamResponse(run.stream(), run.close, state.config.sse_keep_alive_interval)


async def _in_background(accepted: _Accepted, state: ServerState, own: OwnResponses) -> Response:
    try:
        own.store.check_room_in_background()  # others may have come while this one was prepared
    except BaseException:
        await accepted.generation.close()
        raise
    events = EventLog(keeps=True)
    writer = _writer(accepted, state, events)
    stored = _stored(accepted, writer, own, events)
    stored.run = ResponseRun(accepted.generation, writer, events, accepted.log, lambda: own.store.finish(stored))
    own.store.add(stored)
    stored.run.start_in_background()
    if accepted.body.stream:
        return EventStreamResponse(events.follow(-1), _nothing, state.config.sse_keep_alive_interval)
    return json_response(writer.body())


async def _nothing() -> None:
    """What a stream in the background reads from goes on without it."""
