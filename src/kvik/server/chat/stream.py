"""The chunks of a streamed chat completion. Keys that have nothing to say are left out of chunks.

Per choice: a role chunk when the first output arrives, an echo chunk if asked for, chunks of text, reasoning and calls,
of which the last one has `finish_reason` and `stop_reason`. After all choices a usage chunk, if asked for.
"""

from __future__ import annotations

from typing import Any

from kvik.server.chat.answer import ChatAnswer
from kvik.server.chat.parsed_stream import ParsedChoice, Piece
from kvik.server.generation import News
from kvik.server.request_log import RequestLog
from kvik.server.responses import EventTemplate, event
from kvik.server.usage import StreamUsage, UsageCounter
from kvik.text.outputs import CompletionOutput


class ChatStream:
    """The `ChunkWriter` of chat completions."""

    def __init__(self, context: ChatAnswer, log: RequestLog, usage: StreamUsage) -> None:
        self._context = context
        self._log = log
        self._with_usage = usage
        self._usage = UsageCounter(context.with_usage_details, context.request.return_timings)
        self._has_started = False
        self._choices: dict[int, ParsedChoice] = {}
        """Where answers are parsed."""
        self._templates: dict[int, EventTemplate] = {}
        """By choice: of a chunk that has nothing but text to tell."""
        self._tells_more = usage.in_every_chunk or context.request.return_token_ids
        self._head = {
            "id": context.request_id,
            "object": "chat.completion.chunk",
            "created": context.created_s,
            "model": context.model,
        }

    def chunks(self, news: News) -> bytes:
        """All events that this output makes, joined."""
        events: list[bytes] = []
        if not self._has_started:
            self._has_started = True
            events += self._opening(news)
        self._usage.add(0, news.output, self._context.num_choices)
        for answer in news.output.outputs:
            self._log.streamed(self._context.request_id, answer)
            if self._context.new_parser is None:
                events.append(self._text_chunk(answer))
            else:
                events += self._parsed_chunks(answer)
        return b"".join(events)

    def last(self) -> bytes:
        """The usage chunk, or nothing."""
        if not self._with_usage.at_end:
            return b""
        return event(self._head | {"choices": [], "usage": self._usage.streamed_total()} | self._fingerprint())

    def _opening(self, news: News) -> list[bytes]:
        self._usage.add_prompt(0, news.output)
        context = self._context
        prompt = {
            "prompt_token_ids": context.token_ids(news.output.prompt_token_ids),
            "prompt_text": context.shown_prompt_text(),
        }
        roles = [
            self._chunk(_opening_choice(i, {"role": context.role, "content": ""}), prompt)
            for i in range(context.num_choices)
        ]
        if not context.echo_text:
            return roles
        echo = {"content": context.echo_text}
        return roles + [self._chunk(_opening_choice(i, echo)) for i in range(context.num_choices)]

    def _text_chunk(self, answer: CompletionOutput) -> bytes:
        if answer.finish_reason is not None or answer.logprobs is not None or self._tells_more:
            return self._full_chunk({"content": answer.text} if answer.text or not answer.finished else {}, answer)
        return self._template(answer.index).fill(answer.text)

    def _parsed_chunks(self, answer: CompletionOutput) -> list[bytes]:
        choice = self._choices.get(answer.index)
        if choice is None:
            choice = self._choices[answer.index] = ParsedChoice(self._context)
        pieces = choice.pieces(answer)
        if (count := choice.num_reasoning_tokens) is not None:
            self._usage.num_reasoning_tokens[answer.index] = count
        return [self._parsed_chunk(piece) for piece in pieces]

    def _parsed_chunk(self, piece: Piece) -> bytes:
        text = None if self._tells_more else piece.only_text
        if text is not None:
            return self._template(piece.answer.index).fill(text)
        return self._full_chunk(piece.delta, piece.answer)

    def _template(self, index: int) -> EventTemplate:
        template = self._templates.get(index)
        if template is None:
            choice = _opening_choice(index, {"content": ""}) | {"token_ids": None}
            template = self._templates[index] = EventTemplate(self._head | {"choices": [choice]}, "content")
        return template

    def _full_chunk(self, delta: dict[str, Any], answer: CompletionOutput) -> bytes:
        choice: dict[str, Any] = {
            "index": answer.index,
            "delta": delta,
            "logprobs": self._context.logprobs(answer),
            "finish_reason": answer.finish_reason,
            "token_ids": self._context.token_ids(answer.token_ids),
        }
        if not answer.finished:
            return self._chunk(choice)
        choice["stop_reason"] = answer.stop_reason
        return self._chunk(choice, {} if self._with_usage.at_end else self._fingerprint())

    def _chunk(self, choice: dict[str, Any], more: dict[str, Any] | None = None) -> bytes:
        chunk = self._head | {"choices": [choice]} | (more or {})
        if self._with_usage.in_every_chunk:
            chunk["usage"] = self._usage.streamed_of_choice(choice["index"], 0)
        return event(chunk)

    def _fingerprint(self) -> dict[str, Any]:
        fingerprint = self._context.fingerprint
        return {} if fingerprint is None else {"system_fingerprint": fingerprint}


def _opening_choice(index: int, delta: dict[str, str]) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
