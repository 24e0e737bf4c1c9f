"""What every stream of /v1/responses keeps to, held against the types of the openai package."""

from __future__ import annotations

import json
from typing import Any

from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
LAST = {"response.completed", "response.incomplete", "response.failed"}


def response_of(body: Any) -> Response:
    """A response object, every field of the type that the openai package says."""
    return Response.model_validate(body)


def events_of(text: str) -> list[dict[str, Any]]:
    """The events of a stream's bytes: `event:` and `data:`, comments left out, no [DONE]."""
    assert text.endswith("\n\n")
    events = []
    for block in text.split("\n\n")[:-1]:
        if block.startswith(":"):
            continue
        head, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert head == f"event: {event['type']}"
        events.append(event)
    return events


def checked_events(text: str) -> list[dict[str, Any]]:
    """The events of a whole stream, after checking types, numbers, order, and that the parts add up to the whole."""
    events = events_of(text)
    check_events(events)
    return events


def check_events(events: list[dict[str, Any]]) -> None:
    for event in events:
        assert _EVENT.validate_python(event).type == event["type"]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    kinds = [event["type"] for event in events]
    states = 3 if "response.queued" in kinds else 2
    expected = ["response.created", "response.queued", "response.in_progress"]
    assert kinds[:states] == (expected if states == 3 else [expected[0], expected[2]]) or kinds[-1] in LAST
    assert kinds[-1] in LAST
    assert not LAST & set(kinds[:-1])
    body = events[-1]["response"]
    response_of(body)
    items = _items([event for event in events if "output_index" in event])
    assert items == body["output"]


def _items(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items that the events tell of: one after the other, each from `added` to `done`."""
    items = []
    while events:
        assert events[0]["type"] == "response.output_item.added"
        assert events[0]["output_index"] == len(items)
        end = next(i for i, event in enumerate(events) if event["type"] == "response.output_item.done")
        items.append(_item(events[: end + 1]))
        events = events[end + 1 :]
    return items


def _item(events: list[dict[str, Any]]) -> dict[str, Any]:
    added, done = events[0]["item"], events[-1]["item"]
    assert added["status"] == "in_progress"
    assert added["id"] == done["id"]
    assert all(event.get("item_id", added["id"]) == added["id"] for event in events)
    inner = events[1:-1]
    if done["type"] == "function_call":
        assert added["arguments"] == ""
        assert _joined(inner[:-1], "response.function_call_arguments.delta") == done["arguments"]
        assert (inner[-1]["arguments"], inner[-1]["name"]) == (done["arguments"], done["name"])
        return dict(done)
    kind = {"message": "output_text", "reasoning": "reasoning_text"}[done["type"]]
    assert added["content"] == []
    assert (inner[0]["type"], inner[-1]["type"]) == ("response.content_part.added", "response.content_part.done")
    assert done["content"] == [inner[-1]["part"]]
    assert inner[-2]["type"] == f"response.{kind}.done"
    text = _joined(inner[1:-2], f"response.{kind}.delta")
    assert text == inner[-2]["text"] == inner[-1]["part"]["text"]
    if kind == "output_text":
        logprobs = [entry for event in inner[1:-2] for entry in event["logprobs"]]
        assert logprobs == inner[-2]["logprobs"] == inner[-1]["part"]["logprobs"]
    return dict(done)


def _joined(events: list[dict[str, Any]], kind: str) -> str:
    assert all(event["type"] == kind for event in events)
    return "".join(event["delta"] for event in events)
