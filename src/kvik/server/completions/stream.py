"""The chunks of a streamed completion. Every chunk of a choice has all keys; there is no role chunk.

An echoed prompt is glued to a choice's first text. With logprobs, nothing of a prompt's answers is sent until the
logprobs of the prompt are there: they come with one of its outputs, not always the first. After all choices a usage
chunk, if asked for.
"""

from __future__ import annotations

from typing import Any

from kvik.server.completions.answer import CompletionAnswer, Piece, answer_piece, echo_piece, piece_logprobs
from kvik.server.generation import News
from kvik.server.logprobs import CompletionLogprobs
from kvik.server.request_log import RequestLog
from kvik.server.responses import EventTemplate, event
from kvik.server.usage import StreamUsage, UsageCounter
from kvik.text.outputs import CompletionOutput


class CompletionStream:
    """The `ChunkWriter` of completions."""

    def __init__(self, context: CompletionAnswer, log: RequestLog, usage: StreamUsage) -> None:
        self._context = context
        self._log = log
        self._with_usage = usage
        self._usage = UsageCounter(context.with_usage_details, context.request.return_timings)
        self._logprobs: dict[int, CompletionLogprobs] = {}
        """By choice index; a choice is here once it has had a chunk."""
        self._echoes: dict[int, Piece] = {}
        self._held: dict[int, list[News]] = {}
        """Both by prompt index."""
        self._num_finished = 0
        self._templates: dict[int, EventTemplate] = {}
        """By choice index: of a chunk that has nothing but text to tell."""
        request = context.request
        self._tells_more = usage.in_every_chunk or request.return_token_ids or request.echoes_only
        self._head = {
            "id": context.request_id,
            "object": "text_completion",
            "created": context.created_s,
            "model": context.model,
        }

    def chunks(self, news: News) -> bytes:
        """All events that this output makes, joined."""
        if not self._context.request.echo or news.prompt_index in self._echoes:
            return self._send(news)
        held = self._held.setdefault(news.prompt_index, [])
        held.append(news)
        if self._context.echoes_logprobs and news.output.prompt_logprobs is None:
            return b""
        self._echoes[news.prompt_index] = echo_piece(self._context, news.output)
        return b"".join([self._send(earlier) for earlier in self._held.pop(news.prompt_index)])

    def _send(self, news: News) -> bytes:
        self._usage.add(news.prompt_index, news.output, self._context.n)
        return b"".join([self._chunk(news, answer) for answer in news.output.outputs])

    def last(self) -> bytes:
        """The usage chunk, or nothing."""
        if not self._with_usage.at_end:
            return b""
        return event(self._head | {"choices": [], "usage": self._usage.streamed_total()} | self._fingerprint())

    def _chunk(self, news: News, answer: CompletionOutput) -> bytes:
        self._log.streamed(self._context.request_id, answer)
        index = news.prompt_index * self._context.n + answer.index
        template = self._templates.get(index)
        if template is not None and answer.finish_reason is None and answer.logprobs is None:
            return template.fill(answer.text)
        self._num_finished += answer.finished
        choice = self._choice(index, news, answer)
        if not self._tells_more and not answer.finished:  # from the second chunk on, only texts differ
            plain = choice | {"text": "", "logprobs": None}
            self._templates[index] = EventTemplate(self._head | {"choices": [plain]}, "text")
        chunk: dict[str, Any] = self._head | {"choices": [choice]}
        if self._num_finished == self._context.num_choices and not self._with_usage.at_end:
            chunk |= self._fingerprint()
        if self._with_usage.in_every_chunk:
            chunk["usage"] = self._usage.streamed_of_choice(index, news.prompt_index)
        return event(chunk)

    def _choice(self, index: int, news: News, answer: CompletionOutput) -> dict[str, Any]:
        context = self._context
        is_first = index not in self._logprobs
        lists = self._logprobs.setdefault(index, CompletionLogprobs(context.as_token_ids))
        piece = answer_piece(context, answer, self._echoes.get(news.prompt_index) if is_first else None)
        return {
            "index": index,
            "text": piece.text,
            "logprobs": piece_logprobs(context, piece, lists),
            "finish_reason": answer.finish_reason,
            "stop_reason": answer.stop_reason,
            "prompt_token_ids": context.token_ids(news.output.prompt_token_ids) if is_first else None,
            "token_ids": context.token_ids(piece.token_ids),
        }

    def _fingerprint(self) -> dict[str, Any]:
        fingerprint = self._context.fingerprint
        return {} if fingerprint is None else {"system_fingerprint": fingerprint}
