"""The events of a streamed answer of the Messages API. Knows no engine and no socket.

message_start, when the first output arrives; per block content_block_start, deltas, content_block_stop, a thinking
block with its signature before the stop; message_delta with the stop reason; message_stop.
"""

from __future__ import annotations

from typing import Any

from kvik.server.generation import News
from kvik.server.messages_api.answer import MessageContext, final_usage, message_head, stop_of, usage
from kvik.server.messages_api.blocks import BlockClosed, BlockGrew, BlockKind, BlockOpened, BlockSequence, BlockStep
from kvik.server.request_log import RequestLog
from kvik.server.responses import EventTemplate, event
from kvik.text.outputs import CompletionOutput
from kvik.text.parsing import AnswerParser

_DELTAS: dict[BlockKind, tuple[str, str]] = {
    "text": ("text_delta", "text"),
    "thinking": ("thinking_delta", "thinking"),
    "tool_use": ("input_json_delta", "partial_json"),
}
"""A delta's type, and the key of its text."""


def named_event(data: dict[str, Any]) -> bytes:
    """One server-sent event that carries its type twice, as SDKs expect it."""
    return b"event: %b\n" % data["type"].encode() + event(data)


class MessageStream:
    """Turns outputs into events. One per request."""

    def __init__(self, context: MessageContext, log: RequestLog, parser: AnswerParser) -> None:
        self._context = context
        self._log = log
        self._parser = parser
        self._blocks = BlockSequence(context.shows_thinking)
        self._num_tokens = 0
        self._has_started = False
        self._delta_template: EventTemplate | None = None
        """Of the block that is open."""

    def chunks(self, news: News) -> bytes:
        """All events that this output makes, joined."""
        events = [] if self._has_started else [self._start(news)]
        self._has_started = True
        for answer in news.output.outputs:
            events += self._answer_events(news, answer)
        return b"".join(events)

    def _answer_events(self, news: News, answer: CompletionOutput) -> list[bytes]:
        self._log.streamed(self._context.request_id, answer)
        self._num_tokens += len(answer.token_ids)
        steps = self._blocks.add(self._parser.push(answer.text))
        if answer.finished:
            steps += self._blocks.add(self._parser.finish()) + self._blocks.end()
        events = [self._encode(step) for step in steps]
        return [*events, self._end(news, answer)] if answer.finished else events

    def _start(self, news: News) -> bytes:
        nothing: dict[str, Any] = {"content": [], "stop_reason": None, "stop_sequence": None}
        started = message_head(self._context) | nothing | {"usage": usage(self._context, news.output, 0)}
        return named_event({"type": "message_start", "message": started})

    def _end(self, news: News, answer: CompletionOutput) -> bytes:
        reason, sequence = stop_of(answer, self._blocks.num_tool_calls)
        return named_event({
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": sequence},
            "usage": final_usage(self._context, news.output, self._num_tokens),
        }) + named_event({"type": "message_stop"})  # fmt: skip

    def _encode(self, step: BlockStep) -> bytes:
        match step:
            case BlockOpened(index, block):
                self._delta_template = None
                return named_event({"type": "content_block_start", "index": index, "content_block": block})
            case BlockGrew():
                return self._delta(step)
        return _signature(step) + named_event({"type": "content_block_stop", "index": step.index})

    def _delta(self, step: BlockGrew) -> bytes:
        if self._delta_template is None:
            kind, key = _DELTAS[step.kind]
            data = {"type": "content_block_delta", "index": step.index, "delta": {"type": kind, key: ""}}
            self._delta_template = EventTemplate(data, key)
        return b"event: content_block_delta\n" + self._delta_template.fill(step.text)


def _signature(step: BlockClosed) -> bytes:
    if step.block["type"] != "thinking":
        return b""
    delta = {"type": "signature_delta", "signature": step.block["signature"]}
    return named_event({"type": "content_block_delta", "index": step.index, "delta": delta})
