"""One choice of a stream whose text is parsed: from the engine's outputs to deltas of the message. Knows no HTTP.

An output may make no delta, where all of it is held back, or several. Its tokens and logprobs go with the first delta
that comes, so that all of them are told once and in order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kvik.server.chat.answer import ChatAnswer, new_call_id
from kvik.text.outputs import CompletionOutput, PositionLogprobs
from kvik.text.parsing import AnswerEvent, ContentDelta, ReasoningDelta, ToolCallDelta


@dataclass(slots=True)
class Piece:
    """One chunk's worth of an answer."""

    delta: dict[str, Any]
    answer: CompletionOutput
    """Tokens, logprobs and how it ended; its text is in the delta."""

    @property
    def only_text(self) -> str | None:
        """The text, where there is nothing else to tell."""
        is_plain = self.delta.keys() == {"content"} and self.answer.logprobs is None and not self.answer.finished
        return self.delta["content"] if is_plain else None


@dataclass(slots=True)
class _Waiting:
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[PositionLogprobs] | None = None


class ParsedChoice:
    """The parser of one choice, and what it has not told yet."""

    def __init__(self, context: ChatAnswer) -> None:
        assert context.new_parser is not None
        self._context = context
        self._parser = context.new_parser()
        self._counter = None if context.new_counter is None else context.new_counter()
        self._waiting = _Waiting()
        self._num_calls = 0

    @property
    def num_reasoning_tokens(self) -> int | None:
        """None where nobody looks for reasoning."""
        return None if self._counter is None else self._counter.count

    def pieces(self, answer: CompletionOutput) -> list[Piece]:
        """What this output lets one say; the last piece of an answer that has ended says how."""
        events = self._parser.push(answer.text)
        if answer.finished:
            events = events + self._parser.finish()
        if self._counter is not None:
            self._counter.add(answer.token_ids, events)
        self._wait(answer)
        deltas = [delta for event in events for delta in self._deltas(event)]
        if answer.finished and (not deltas or "tool_calls" in deltas[-1]):
            deltas.append({})
        return [self._piece(delta, answer, i == len(deltas) - 1) for i, delta in enumerate(deltas)]

    def _wait(self, answer: CompletionOutput) -> None:
        if self._hides_tokens:
            return
        self._waiting.token_ids += answer.token_ids
        if answer.logprobs is not None:
            self._waiting.logprobs = (self._waiting.logprobs or []) + answer.logprobs

    @property
    def _hides_tokens(self) -> bool:
        """Tokens and logprobs would tell what is not to be told."""
        return not self._context.request.include_reasoning and self._counter is not None

    def _piece(self, delta: dict[str, Any], answer: CompletionOutput, is_last: bool) -> Piece:
        waiting, self._waiting = self._waiting, _Waiting()
        ends = is_last and answer.finished
        reason = self._context.finish_reason(answer.finish_reason, self._num_calls) if ends else None
        return Piece(
            delta,
            CompletionOutput(
                index=answer.index,
                text="",
                token_ids=waiting.token_ids,
                logprobs=waiting.logprobs,
                finish_reason=reason,
                stop_reason=answer.stop_reason if ends else None,
            ),
        )

    def _deltas(self, event: AnswerEvent) -> list[dict[str, Any]]:
        match event:
            case ContentDelta(text):
                return [{"content": text}]
            case ReasoningDelta(text):
                shown = self._context.request.include_reasoning
                return [{"reasoning": text, "reasoning_content": text}] if shown else []
            case ToolCallDelta(index, name, arguments):
                return self._call_deltas(index, name, arguments)

    def _call_deltas(self, index: int, name: str | None, arguments: str) -> list[dict[str, Any]]:
        deltas = []
        if name is not None:
            self._num_calls += 1
            call = {"id": new_call_id(), "type": "function", "index": index, "function": {"name": name}}
            deltas.append({"content": None, "tool_calls": [call]})
        if arguments:
            deltas.append({"content": None, "tool_calls": [{"index": index, "function": {"arguments": arguments}}]})
        return deltas
