"""From a running generation to the bytes of its event stream. What a chunk looks like is the writer's matter."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from kvik.server.errors import describe, is_foreseen
from kvik.server.generation import Generation, News
from kvik.server.responses import DONE_EVENT, EventStreamResponse, event
from kvik.telemetry.log import get_logger

logger = get_logger(__name__)


class ChunkWriter(Protocol):
    """Turns outputs into events of one API. One writer per request."""

    def chunks(self, news: News) -> bytes:
        """All events that this output makes, joined."""

    def last(self) -> bytes:
        """What follows when all answers have ended, without the final [DONE]."""


def stream_response(generation: Generation, writer: ChunkWriter, keep_alive_interval_s: float) -> EventStreamResponse:
    return EventStreamResponse(_events(generation, writer), generation.close, keep_alive_interval_s)


async def _events(generation: Generation, writer: ChunkWriter) -> AsyncIterator[bytes]:
    try:
        async for batch in generation.batches():
            yield b"".join([writer.chunks(news) for news in batch])
        yield writer.last() + DONE_EVENT
    except Exception as error:  # the status is sent: what is left is an event
        info = describe(error)
        if info.is_ours:
            logger.error("a stream ended with an error: %s", error, exc_info=None if is_foreseen(error) else error)
        yield event(info.body()) + DONE_EVENT
