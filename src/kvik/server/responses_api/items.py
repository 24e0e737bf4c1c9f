"""The items that a response consists of, while they are made: each says its own events, in their order.

Every item: `output_item.added`, its deltas, its `.done`, `output_item.done`. Messages and reasoning have one content
part, with events of its own around the deltas; calls have none.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

from kvik.server.responses_api.events import EventSink
from kvik.server.responses_api.ids import new_id

ItemStatus = Literal["in_progress", "completed", "incomplete"]


class OpenItem(Protocol):
    """An item that is being made."""

    def snapshot(self, status: ItemStatus) -> dict[str, Any]:
        """The item as it is so far."""

    def close(self, sink: EventSink, status: ItemStatus) -> dict[str, Any]:
        """Say that it is complete, or was cut; returns the item."""


class MessageItem:
    """Text of the answer."""

    def __init__(self, sink: EventSink, output_index: int) -> None:
        self._where = {"item_id": new_id("msg"), "output_index": output_index, "content_index": 0}
        self._texts: list[str] = []
        self._logprobs: list[dict[str, Any]] = []
        sink.emit("response.output_item.added", output_index=output_index, item=self._item("in_progress", []))
        sink.emit("response.content_part.added", **self._where, part=self._part())

    def add(self, sink: EventSink, text: str, logprobs: list[dict[str, Any]]) -> None:
        self._texts.append(text)
        self._logprobs += logprobs
        sink.emit("response.output_text.delta", **self._where, delta=text, logprobs=logprobs)

    def snapshot(self, status: ItemStatus) -> dict[str, Any]:
        return self._item(status, [self._part()])

    def close(self, sink: EventSink, status: ItemStatus) -> dict[str, Any]:
        part = self._part()
        item = self._item(status, [part])
        sink.emit("response.output_text.done", **self._where, text=part["text"], logprobs=self._logprobs)
        sink.emit("response.content_part.done", **self._where, part=part)
        sink.emit("response.output_item.done", output_index=self._where["output_index"], item=item)
        return item

    def _part(self) -> dict[str, Any]:
        text = "".join(self._texts)
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": list(self._logprobs)}

    def _item(self, status: ItemStatus, content: list[dict[str, Any]]) -> dict[str, Any]:
        message = {"id": self._where["item_id"], "type": "message", "role": "assistant"}
        return message | {"status": status, "content": content, "phase": None}


class ReasoningItem:
    """What the model thought before it answered."""

    def __init__(self, sink: EventSink, output_index: int) -> None:
        self._where = {"item_id": new_id("rs"), "output_index": output_index, "content_index": 0}
        self._texts: list[str] = []
        sink.emit("response.output_item.added", output_index=output_index, item=self._item("in_progress", []))
        sink.emit("response.content_part.added", **self._where, part=self._part())

    def add(self, sink: EventSink, text: str) -> None:
        self._texts.append(text)
        sink.emit("response.reasoning_text.delta", **self._where, delta=text)

    def snapshot(self, status: ItemStatus) -> dict[str, Any]:
        return self._item(status, [self._part()])

    def close(self, sink: EventSink, status: ItemStatus) -> dict[str, Any]:
        part = self._part()
        item = self._item(status, [part])
        sink.emit("response.reasoning_text.done", **self._where, text=part["text"])
        sink.emit("response.content_part.done", **self._where, part=part)
        sink.emit("response.output_item.done", output_index=self._where["output_index"], item=item)
        return item

    def _part(self) -> dict[str, Any]:
        return {"type": "reasoning_text", "text": "".join(self._texts)}

    def _item(self, status: ItemStatus, content: list[dict[str, Any]]) -> dict[str, Any]:
        item = {"id": self._where["item_id"], "type": "reasoning", "summary": [], "content": content}
        return item | {"encrypted_content": None, "status": status}


class CallItem:
    """A call of one of the client's functions."""

    def __init__(self, sink: EventSink, output_index: int, name: str) -> None:
        self._where = {"item_id": new_id("fc"), "output_index": output_index}
        self._call_id = new_id("call")
        self._name = name
        self._arguments: list[str] = []
        sink.emit("response.output_item.added", output_index=output_index, item=self.snapshot("in_progress"))

    def add(self, sink: EventSink, arguments: str) -> None:
        self._arguments.append(arguments)
        sink.emit("response.function_call_arguments.delta", **self._where, delta=arguments)

    def snapshot(self, status: ItemStatus) -> dict[str, Any]:
        return {
            "id": self._where["item_id"],
            "type": "function_call",
            "call_id": self._call_id,
            "name": self._name,
            "arguments": "".join(self._arguments),
            "status": status,
            "caller": None,
            "namespace": None,
        }

    def close(self, sink: EventSink, status: ItemStatus) -> dict[str, Any]:
        item = self.snapshot(status)
        done = {"name": self._name, "arguments": item["arguments"]}
        sink.emit("response.function_call_arguments.done", **self._where, **done)
        sink.emit("response.output_item.done", output_index=self._where["output_index"], item=item)
        return item
