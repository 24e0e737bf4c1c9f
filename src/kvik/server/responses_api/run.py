"""One response while the engine works on it: read by its own stream, or by a task when nobody waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from kvik.errors import InvalidRequestError
from kvik.server.errors import describe, is_foreseen
from kvik.server.generation import Generation
from kvik.server.request_log import RequestLog
from kvik.server.responses import settle
from kvik.server.responses_api.convert import in_own_terms
from kvik.server.responses_api.events import EventLog
from kvik.server.responses_api.writer import ResponseWriter
from kvik.telemetry.log import get_logger

logger = get_logger(__name__)


class ResponseRun:
    """Drives a writer with what the engine says. `on_end` is called once, before the last event is handed on."""

    def __init__(
        self,
        generation: Generation,
        writer: ResponseWriter,
        events: EventLog,
        request_log: RequestLog,
        on_end: Callable[[], None],
    ) -> None:
        self.writer = writer
        self.events = events
        self._generation = generation
        self._request_log = request_log
        self._on_end = on_end
        self._task: asyncio.Task[None] | None = None

    async def stream(self) -> AsyncIterator[bytes]:
        """The events as they come, several joined, to the last one. To be closed by `close` in every case."""
        self.writer.start()
        yield self.events.take()
        async for _ in self._steps():
            yield self.events.take()

    def start_in_background(self) -> None:
        """Generate whoever listens. The response is queued when this returns."""
        self.writer.start()
        self._task = asyncio.create_task(self._run(), name=f"response {self.writer.facts.id}")

    async def cancel(self) -> None:
        """End it now, if it runs; the engine has been told when this returns."""
        if self._task is not None:
            await settle(self._task)
        await self.close()
        if not self.writer.has_ended:
            self.writer.cancel()
            self._end()

    async def close(self) -> None:
        """Free what the engine holds; harmless after the end."""
        await self._generation.close()

    async def _run(self) -> None:
        try:
            async for _ in self._steps():
                pass
        finally:
            await self.close()

    async def _steps(self) -> AsyncIterator[None]:
        """Goes on each time that there may be new events. A failure becomes the last of them."""
        name = self.writer.facts.id
        try:
            async for batch in self._generation.batches():
                for news in batch:
                    for answer in news.output.outputs:
                        self._request_log.streamed(name, answer)
                    self.writer.push(news.output)
                if self.writer.has_ended:
                    self._end()
                yield
        except Exception as error:  # the status is sent: what is left is an event
            info = describe(in_own_terms(error) if isinstance(error, InvalidRequestError) else error)
            if info.is_ours:
                logger.error(
                    "a response ended with an error: %s", error, exc_info=None if is_foreseen(error) else error
                )
            if not self.writer.has_ended:
                self.writer.fail(info.message, "server_error" if info.status >= 500 else "invalid_prompt")
                self._end()
                yield

    def _end(self) -> None:
        self._on_end()
        self.events.end()
