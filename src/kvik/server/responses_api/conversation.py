"""Items -> the messages that chat templates read. Knows no request and no HTTP.

What a model said in one turn comes as several items: reasoning, a message, calls. A template wants them as one message
of the assistant, so that is what they become, as long as their order is reasoning, text, calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kvik.server.responses_api.input_items import Item, text_of

Message = dict[str, Any]


def chat_messages(items: Sequence[Item], instructions: str | None) -> list[Message]:
    """The conversation of `items`; `instructions` come first, as the system's message."""
    messages: list[Message] = []
    if instructions:
        messages.append({"role": "system", "content": instructions})
    names = {item["call_id"]: item["name"] for item in items if item["type"] == "function_call"}
    turn: Message | None = None
    for item in items:
        if item["type"] == "reasoning" and not reasoning_text(item):
            continue  # all of it is encrypted, by somebody else
        if _is_said_by_model(item):
            if turn is None or not _goes_on(turn, item):
                turn = {"role": "assistant", "content": None}
                messages.append(turn)
            _add(turn, item)
        else:
            turn = None
            messages.append(_message(item, names))
    return messages


def _is_said_by_model(item: Item) -> bool:
    return item["type"] in ("reasoning", "function_call") or item.get("role") == "assistant"


def _goes_on(turn: Message, item: Item) -> bool:
    """Whether the item belongs to the turn rather than beginning the next one."""
    if item["type"] == "function_call":
        return True
    if item["type"] == "message":
        return not turn["content"] and "tool_calls" not in turn
    return not (turn["content"] or "tool_calls" in turn)


def _add(turn: Message, item: Item) -> None:
    if item["type"] == "reasoning":
        turn["reasoning"] = turn.get("reasoning", "") + reasoning_text(item)
    elif item["type"] == "function_call":
        turn.setdefault("tool_calls", []).append(_tool_call(item))
    else:
        turn["content"] = "".join(text_of(item["content"]))


def reasoning_text(item: Item) -> str:
    """What was reasoned, or its summary where that is all there is."""
    return "".join(part["text"] for part in item.get("content") or item["summary"])


def _tool_call(item: Item) -> dict[str, Any]:
    function = {"name": item["name"], "arguments": item["arguments"]}
    return {"id": item["call_id"], "type": "function", "function": function}


def _message(item: Item, names: dict[str, str]) -> Message:
    if item["type"] == "function_call_output":
        output = item["output"]
        content = output if isinstance(output, str) else "\n".join(text_of(output))
        return {"role": "tool", "tool_call_id": item["call_id"], "name": names[item["call_id"]], "content": content}
    texts = text_of(item["content"])
    if len(texts) == 1:
        return {"role": item["role"], "content": texts[0]}
    return {"role": item["role"], "content": [{"type": "text", "text": text} for text in texts]}
