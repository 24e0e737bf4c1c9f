"""The outputs of one request between the task that makes them and the one that reads them. Knows no engine.

A slow reader costs little memory: what it has not read yet is one output into which news is merged, and one whose
unread output has grown beyond `MAX_UNREAD_VALUES` loses its request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kvik.errors import SlowReaderError
from kvik.telemetry.request_times import RequestTimes
from kvik.text.outputs import CompletionOutput, RequestOutput

if TYPE_CHECKING:
    from kvik.engine_client.protocol import OutputStream

MAX_UNREAD_VALUES = 1 << 17
"""Tokens and logprobs that wait for one reader: some 20 MB as logprobs, a tenth of it as tokens."""


class RequestStream:
    """An async iterator with one writer and one reader. `cancel` is called once if the reader leaves before the end.

    `deltas`: outputs hold only what is new and are appended when merged; otherwise the newer one replaces the older.
    """

    def __init__(self, cancel: Callable[[], None], deltas: bool, held_bytes: int = 0, caller: str = "") -> None:
        self.held_bytes = held_bytes
        """Taken for it in the ledger."""
        self.caller = caller
        """Who sent the request."""
        self.times: Sequence[RequestTimes] = ()
        """Live records of its answers. Read only."""
        self._cancel = cancel
        self._deltas = deltas
        self._unread: RequestOutput | None = None
        self._num_unread_values = 0
        """Of what has been merged; one output alone may have any size."""
        self._error: Exception | None = None
        self._ended = False
        self._news: asyncio.Future[None] | None = None
        """What the reader waits for."""

    @property
    def ended(self) -> bool:
        """The last output, or an error, has been put in."""
        return self._ended

    def put(self, output: RequestOutput) -> None:
        """Add an output; wakes the reader. The one with `finished` is the last; after an end, nothing is added."""
        if self._ended:
            return
        if self._unread is None:
            self._unread = output
        else:
            self._merge(self._unread, output)
        self._ended = output.finished
        self._wake_reader()
        if self._num_unread_values > MAX_UNREAD_VALUES and not self._ended:
            self._give_up()

    def fail(self, error: Exception) -> None:
        """End the stream: the reader gets what is unread, then this error."""
        if not self._ended:
            self._error = error
            self._ended = True
            self._wake_reader()

    def _merge(self, unread: RequestOutput, output: RequestOutput) -> None:
        if self._deltas:
            self._num_unread_values += sum(map(_num_values, output.outputs))
        self._unread = merge_outputs(unread, output, self._deltas)

    def _give_up(self) -> None:
        self.fail(SlowReaderError("the answer ends here: it was read too slowly, and too much of it waited"))
        self._cancel()

    def _wake_reader(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def __aiter__(self) -> RequestStream:
        return self

    async def __anext__(self) -> RequestOutput:
        while self._unread is None:
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            if self._ended:
                raise StopAsyncIteration
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        output, self._unread = self._unread, None
        self._num_unread_values = 0
        return output

    async def aclose(self) -> None:
        """Leave: what still runs is aborted. Nothing is awaited, so that a cancelled task can do it too."""
        if not self._ended:
            self._ended = True
            self._cancel()
        self._unread = self._error = None


def _num_values(answer: CompletionOutput) -> int:
    per_token = 1 + len(answer.logprobs[0]) if answer.logprobs else 1
    return per_token * len(answer.token_ids)


async def close_all(streams: Sequence[OutputStream]) -> None:
    """Close all at once: none waits for another, and all are closed even where the caller is cancelled meanwhile.

    Raises the first error of a stream once all have been closed.
    """
    if len(streams) < 2:  # every request ends here; most have one stream
        for stream in streams:
            await stream.aclose()
        return
    closing = asyncio.gather(*(stream.aclose() for stream in streams), return_exceptions=True)
    for error in await asyncio.shield(closing):
        if error is not None:
            raise error


def merge_outputs(older: RequestOutput, newer: RequestOutput, deltas: bool) -> RequestOutput:
    """One output that says what both say. The older one may be changed and must not be used any more."""
    answers = {answer.index: answer for answer in older.outputs}
    for answer in newer.outputs:
        before = answers.get(answer.index)
        answers[answer.index] = _append(before, answer) if deltas and before is not None else answer
    newer.outputs = [answers[index] for index in sorted(answers)]
    if newer.prompt_logprobs is None:
        newer.prompt_logprobs = older.prompt_logprobs
    return newer


def _append(before: CompletionOutput, after: CompletionOutput) -> CompletionOutput:
    after.text = before.text + after.text
    after.token_ids = before.token_ids + after.token_ids
    if before.logprobs is not None and after.logprobs is not None:
        after.logprobs = before.logprobs + after.logprobs
    return after
