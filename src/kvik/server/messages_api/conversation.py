"""Turns of Anthropic blocks -> the messages of a chat request. Knows no template and no HTTP.

What an assistant did in one turn (thinking, text, calls) is one message. A user's turn is one message per result of a
tool and one for the text around them, in their order.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from kvik.errors import InvalidRequestError
from kvik.server.messages_api.turns import Block, Turn, blocks_of, turns_of

_READABLE = "this model reads text; send blocks of type"


def chat_messages(system: str | list[dict[str, Any]] | None, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The conversation in chat's form. Raises `InvalidRequestError` naming the block that is wrong."""
    chat: list[dict[str, Any]] = []
    if system:
        chat.append(_text_message("system", list(blocks_of(system, "system"))))
    names: dict[str, str] = {}
    for turn in turns_of(messages):
        chat += _turn_messages(turn, names)
    return chat


def continues_last_message(chat: list[dict[str, Any]]) -> bool:
    """The client began the answer itself, and the model is to go on from there.

    Raises `InvalidRequestError` where the last message calls tools: their results must come first.
    """
    last = chat[-1]
    if last["role"] != "assistant":
        return False
    if last.get("tool_calls"):
        raise InvalidRequestError(
            "the last message has tool_use blocks; answer them with tool_result blocks in a user message",
            param="messages",
        )
    return True


def _turn_messages(turn: Turn, names: dict[str, str]) -> list[dict[str, Any]]:
    """`names`: of the tool of each call so far, by the call's id."""
    if turn.role == "assistant":
        return [_assistant_message(turn.blocks, names)]
    if turn.role == "system":
        return [_text_message("system", turn.blocks)]
    return _user_messages(turn.blocks, names)


def _user_messages(blocks: list[Block], names: dict[str, str]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    said: list[Block] = []
    for block in blocks:
        if block.type != "tool_result":
            said.append(block)
            continue
        if said:
            messages.append(_text_message("user", said))
            said = []
        messages.append(_tool_message(block, names))
    if said or not messages:
        messages.append(_text_message("user", said))
    return messages


def _assistant_message(blocks: list[Block], names: dict[str, str]) -> dict[str, Any]:
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[dict[str, Any]] = []
    for block in blocks:
        match block.type:
            case "thinking":
                thoughts.append(block.text("thinking"))
            case "redacted_thinking":
                block.text("data")  # thoughts of a model elsewhere, which nobody here can read
            case "tool_use":
                calls.append(_tool_call(block, names))
            case _:
                texts.append(_block_text(block, "text, thinking or tool_use"))
    message: dict[str, Any] = {"role": "assistant", "content": _content(texts) if texts or not calls else None}
    if any(thoughts):
        message["reasoning"] = "\n".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    return message


def _tool_call(block: Block, names: dict[str, str]) -> dict[str, Any]:
    call_id, name = block.name("id"), block.name("name")
    names[call_id] = name
    arguments = json.dumps(block.object("input"), ensure_ascii=False)
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _tool_message(block: Block, names: dict[str, str]) -> dict[str, Any]:
    call_id = block.name("tool_use_id")
    content = block.fields.get("content")
    parts = [] if content is None else blocks_of(content, f"{block.where}.content")
    texts = [_block_text(part, "text") for part in parts]
    if block.fields.get("is_error"):
        texts = ["Error: " + "\n".join(texts)]  # templates have no other way to tell
    message = {"role": "tool", "tool_call_id": call_id, "content": _content(texts)}
    return message | ({"name": names[call_id]} if call_id in names else {})


def _text_message(role: str, blocks: Iterable[Block]) -> dict[str, Any]:
    expected = "text, document or tool_result" if role == "user" else "text"
    return {"role": role, "content": _content([_block_text(block, expected) for block in blocks])}


def _content(texts: list[str]) -> str | list[dict[str, str]]:
    if len(texts) < 2:
        return texts[0] if texts else ""
    return [{"type": "text", "text": text} for text in texts]


def _block_text(block: Block, expected: str) -> str:
    match block.type:
        case "text":
            return block.text("text")
        case "tool_reference":  # every tool of the request is in the prompt: the name is all there is to say
            return block.text("tool_name")
        case "document" if block.object("source").get("type") == "text":
            return Block(f"{block.where}.source", block.object("source")).text("data")
        case "document":
            raise block.error("source", f"must be of type 'text': {_READABLE} {expected}")
    raise block.error("type", f"is {block.type[:100]!r} here, but {_READABLE} {expected}")
