"""From the engine's outputs to items, events and the response object. Knows neither engine nor store.

Whole answers and streams come the same way: a whole answer is one output, and its events go nowhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from kvik.server.responses_api.answer import RUNNING, Outcome, ResponseFacts, Status, response_body
from kvik.server.responses_api.events import EventSink
from kvik.server.responses_api.items import CallItem, ItemStatus, MessageItem, OpenItem, ReasoningItem
from kvik.server.responses_api.logprobs import ContentLogprobs
from kvik.text.outputs import CompletionOutput, RequestOutput
from kvik.text.parsing import AnswerEvent, AnswerParser, ContentDelta, ReasoningDelta, ToolCallDelta

ErrorCode = Literal["server_error", "invalid_prompt"]
"""Those of OpenAI's codes that fit: our fault, or the request's."""
_ABORTED = "the server ended this request before the answer was complete"


class ResponseWriter:
    """Makes one response. `count_tokens` counts those of a text: reasoning is counted once it is there."""

    def __init__(
        self, facts: ResponseFacts, parser: AnswerParser, sink: EventSink, count_tokens: Callable[[str], int]
    ) -> None:
        self.facts = facts
        self._parser = parser
        self._sink = sink
        self._count_tokens = count_tokens
        self._outcome = Outcome("queued" if facts.request.background else "in_progress")
        self._logprobs = ContentLogprobs(facts.request.num_logprobs, facts.as_token_ids)
        self._open: OpenItem | None = None
        self._call_index = -1
        """Of the call that is open, among those of the answer."""
        self._blank = ""
        """White space that is a message's only if more of the message follows."""
        self._reasoning: list[str] = []

    @property
    def status(self) -> Status:
        return self._outcome.status

    @property
    def has_ended(self) -> bool:
        return self.status not in RUNNING

    @property
    def output(self) -> list[dict[str, Any]]:
        """The items that are complete."""
        return self._outcome.output

    def body(self) -> dict[str, Any]:
        """The response object as of now; an item that is being made is in progress."""
        body = response_body(self.facts, self._outcome)
        if self._open is not None:
            body["output"].append(self._open.snapshot("in_progress"))
        return body

    def start(self) -> None:
        """The engine has taken the request. In the background it waits until the engine's first word."""
        self._emit_state("response.created")
        self._emit_state("response.queued" if self.status == "queued" else "response.in_progress")

    def push(self, output: RequestOutput) -> None:
        """What is new; the last one ends the response."""
        self._count(output)
        if self.status == "queued":
            self._outcome.status = "in_progress"
            self._emit_state("response.in_progress")
        for answer in output.outputs:
            self._logprobs.add(answer.logprobs)
            self._add(self._parser.push(answer.text))
            if answer.finished:
                self._add(self._parser.finish())
                self._finish(answer)

    def fail(self, message: str, code: ErrorCode = "server_error") -> None:
        """The engine could not finish."""
        self._end("failed", {"code": code, "message": message})

    def cancel(self) -> None:
        """Nobody wants the rest."""
        self._end("cancelled")

    def _count(self, output: RequestOutput) -> None:
        counts = self._outcome.counts
        counts.num_input, counts.num_cached = len(output.prompt_token_ids), output.num_cached_tokens
        counts.times = output.times
        counts.num_output += sum(len(answer.token_ids) for answer in output.outputs)

    def _add(self, events: list[AnswerEvent]) -> None:
        for event in events:
            match event:
                case ContentDelta(text):
                    self._add_content(text)
                case ReasoningDelta(text):
                    self._add_reasoning(text)
                case ToolCallDelta():
                    self._add_call(event)

    def _add_content(self, text: str) -> None:
        item = self._open
        if not isinstance(item, MessageItem):
            text = self._blank + text
            if not text.strip():
                self._blank = text
                return
            self._close("completed")
            self._blank = ""
            item = self._open = MessageItem(self._sink, len(self.output))
        if text:
            item.add(self._sink, text, self._logprobs.take(text))

    def _add_reasoning(self, text: str) -> None:
        self._reasoning.append(text)
        self._logprobs.drop(text)
        if not self.facts.request.include_reasoning or not text:
            return
        item = self._open
        if not isinstance(item, ReasoningItem):
            self._close("completed")
            item = self._open = ReasoningItem(self._sink, len(self.output))
        item.add(self._sink, text)

    def _add_call(self, event: ToolCallDelta) -> None:
        max_calls = self.facts.request.max_calls
        if max_calls is not None and event.index >= max_calls:
            return
        if event.name is not None:
            self._close("completed")
            self._open = CallItem(self._sink, len(self.output), event.name)
            self._call_index = event.index
        assert isinstance(self._open, CallItem)
        assert self._call_index == event.index, "calls come one after the other"
        if event.arguments:
            self._open.add(self._sink, event.arguments)

    def _close(self, status: ItemStatus) -> None:
        """The open item, if there is one, is complete. White space before the next one is nobody's."""
        if self._open is not None:
            self._outcome.output.append(self._open.close(self._sink, status))
            self._open = None
        self._blank = ""

    def _finish(self, answer: CompletionOutput) -> None:
        if answer.finish_reason == "length":
            self._end("incomplete")
        elif answer.finish_reason == "abort":
            self.fail(_ABORTED)
        else:
            self._end("completed")

    def _end(self, status: Status, error: dict[str, Any] | None = None) -> None:
        if self._open is None and not self.output and status in ("completed", "incomplete"):
            self._say_nothing()
        self._close("completed" if status == "completed" else "incomplete")
        counts = self._outcome.counts
        if self._reasoning:
            counts.num_reasoning = min(counts.num_output, self._count_tokens("".join(self._reasoning)))
        self._outcome.end(status, error)
        self._emit_state(_LAST_EVENTS[status])

    def _say_nothing(self) -> None:
        """A response without items would leave clients that read the last one without an answer."""
        self._open = message = MessageItem(self._sink, 0)
        if self._blank:
            message.add(self._sink, self._blank, self._logprobs.take(self._blank))

    def _emit_state(self, kind: str) -> None:
        self._sink.emit(kind, response=self.body())


_LAST_EVENTS: dict[Status, str] = {
    "completed": "response.completed",
    "incomplete": "response.incomplete",
    "failed": "response.failed",
    # The protocol has no event of this name; what was cancelled is not complete, and its status says why.
    "cancelled": "response.incomplete",
}
