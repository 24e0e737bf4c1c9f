"""The log of events: numbers, readers that come late, and readers that wait."""

from __future__ import annotations

import asyncio

from kvik.server.responses_api.events import EventLog
from support.response_events import events_of


def test_take_gives_each_event_once() -> None:
    for keeps in (False, True):
        log = EventLog(keeps=keeps)
        log.emit("a", x=1)
        log.emit("b")
        assert [(e["type"], e["sequence_number"]) for e in events_of(log.take().decode())] == [("a", 0), ("b", 1)]
        assert log.take() == b""
        log.emit("c")
        assert [e["sequence_number"] for e in events_of(log.take().decode())] == [2]


def test_what_is_not_kept_takes_no_memory() -> None:
    log = EventLog(keeps=False)
    log.emit("a")
    assert log.num_bytes > 0
    log.take()
    assert log.num_bytes == 0


def test_readers_get_what_was_and_what_comes() -> None:
    async def read(log: EventLog, starting_after: int) -> list[int]:
        return [e["sequence_number"] async for part in log.follow(starting_after) for e in events_of(part.decode())]

    async def scenario() -> None:
        log = EventLog(keeps=True)
        log.emit("a")
        log.emit("b")
        readers = [asyncio.create_task(read(log, after)) for after in (-1, 0, 1, 7)]
        await asyncio.sleep(0)
        log.emit("c")
        await asyncio.sleep(0)
        log.emit("d")
        log.end()
        assert await asyncio.gather(*readers) == [[0, 1, 2, 3], [1, 2, 3], [2, 3], []]
        assert await read(log, 2) == [3]

    asyncio.run(asyncio.wait_for(scenario(), 5))
