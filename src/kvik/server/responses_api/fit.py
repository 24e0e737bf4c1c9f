"""Truncation: which of a conversation's items a prompt can hold. Knows neither the store nor what is generated.

With `truncation="auto"` the oldest items are left out, as few as possible. What the system and the developer said, and
the last item, always stay; an output of a function goes with its call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from kvik.server.chat.prepare import PreparedChat, prepare_chat
from kvik.server.responses_api.convert import Wishes, to_chat_request
from kvik.server.responses_api.input_items import Item, text_of
from kvik.server.responses_api.protocol import ResponsesRequest
from kvik.server.state import ServerState

ROOM_SHARE = 8
"""Where `max_output_tokens` is not said, this part of the context stays free for the answer: 1 / ROOM_SHARE."""
_LONG_PROMPT_CHARS = 1 << 16
"""From here on, tokenizing takes longer than the event loop should wait."""


async def prepare_items(
    body: ResponsesRequest, wishes: Wishes, items: Sequence[Item], state: ServerState, request_id: str, priority: int
) -> PreparedChat:
    """The conversation, ready for the engine, which refuses what is too long. Raises what `prepare_chat` raises."""

    async def without(num_dropped: int) -> PreparedChat:
        kept = without_oldest(items, num_dropped)
        return await prepare_chat(to_chat_request(body, wishes, kept), state, request_id, priority)

    if body.truncation != "auto":
        return await without(0)
    too_few, enough = _least_dropped(items, state), len(_droppable(items))
    chat = await without(too_few)
    if await _fits(chat, state):
        return chat
    chat = await without(enough)
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        shorter = await without(middle)
        if await _fits(shorter, state):
            enough, chat = middle, shorter
        else:
            too_few = middle
    return chat


def without_oldest(items: Sequence[Item], num_dropped: int) -> list[Item]:
    """The items but for the oldest `num_dropped` of those that may go, and outputs whose call has gone."""
    dropped = set(_droppable(items)[:num_dropped])
    kept = [item for i, item in enumerate(items) if i not in dropped]
    call_ids = {item["call_id"] for item in kept if item["type"] == "function_call"}
    return [item for item in kept if item["type"] != "function_call_output" or item["call_id"] in call_ids]


def _droppable(items: Sequence[Item]) -> list[int]:
    last_call_id = items[-1].get("call_id")
    return [
        i
        for i, item in enumerate(items[:-1])
        if item.get("role") not in ("system", "developer")
        and not (item["type"] == "function_call" and item["call_id"] == last_call_id)
    ]


def _least_dropped(items: Sequence[Item], state: ServerState) -> int:
    """With fewer items left out than this, the characters alone are too many. No template needs to see those."""
    max_chars = state.client.facts.max_model_len * state.tokenizer.max_chars_per_token
    num_chars = sum(_num_chars(item) for item in items)
    droppable = _droppable(items)
    for num_dropped, i in enumerate(droppable):
        if num_chars <= max_chars:
            return num_dropped
        num_chars -= _num_chars(items[i])
    return len(droppable)


def _num_chars(item: Item) -> int:
    """Of the texts that every template shows."""
    return sum(len(text) for text in text_of(item["content"])) if item["type"] == "message" else 0


async def _fits(chat: PreparedChat, state: ServerState) -> bool:
    max_model_len = state.client.facts.max_model_len
    tokenizer = state.tokenizer
    text = chat.prompt_text
    if len(text) > max_model_len * tokenizer.max_chars_per_token:
        return False
    with_special = chat.body.add_special_tokens
    if len(text) < _LONG_PROMPT_CHARS:
        num_tokens = len(tokenizer.encode(text, with_special))
    else:
        num_tokens = len(await asyncio.to_thread(tokenizer.encode, text, with_special))
    return num_tokens + _room(state.cap_max_tokens(chat.body.asked_max_tokens), max_model_len) <= max_model_len


def _room(max_output_tokens: int | None, max_model_len: int) -> int:
    """Tokens that stay free for the answer."""
    room = max(1, max_model_len // ROOM_SHARE)
    return room if max_output_tokens is None or max_output_tokens >= max_model_len else max_output_tokens
