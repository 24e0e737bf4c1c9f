"""The screen, driven by keys, against a fake server that changes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from textual.pilot import Pilot
from textual.widgets import DataTable, Static

from fakes.watched_server import Answers, WatchedServer
from kvik.cli.top.app import TopApp
from kvik.cli.top.source import Source
from support.server import free_port

READY = {"status": "ready", "phase": None, "elapsed_s": 3.0, "estimated_s_left": None, "phases": []}
Drive = Callable[[TopApp, Pilot[None]], Awaitable[None]]


def rows(*ids: str) -> tuple[int, object]:
    return 200, {"requests": [{"request_id": i, "state": "decode", "age_s": 1.0} for i in ids]}


def fine(*ids: str) -> Answers:
    metrics = 'kvik:num_requests_running 3\nkvik:memory_bytes{part="weights"} 1024\n'
    return {"/startup": (200, READY), "/metrics": (200, metrics), "/debug/requests": rows(*ids)}


def drive(url: str, script: Drive, interval_s: float = 0.2) -> None:
    async def run() -> None:
        app = TopApp(Source(url, None), interval_s)
        async with app.run_test(size=(100, 30)) as pilot:
            await script(app, pilot)

    asyncio.run(run())


def text_of(app: TopApp, name: str) -> str:
    return str(app.query_one(name, Static).render())


async def until(pilot: Pilot[None], holds: Callable[[], bool]) -> None:
    """The screen looks again by itself; a test that is wrong ends with pytest's own limit."""
    while not holds():
        await pilot.pause(0.005)


def test_it_shows_what_the_server_says() -> None:
    async def script(app: TopApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "ready" in text_of(app, "#state"))
        assert "running  3" in text_of(app, "#figures")
        assert "weights" in text_of(app, "#memory")
        assert app.query_one(DataTable).row_count == 2
        assert text_of(app, "#note") == ""

    with WatchedServer(fine("a", "b")) as server:
        drive(server.url, script)


def test_a_request_is_cancelled_with_a_key_and_the_cursor_stays_on_its_own() -> None:
    async def script(app: TopApp, pilot: Pilot[None]) -> None:
        table = app.query_one(DataTable)
        await until(pilot, lambda: table.row_count == 3)
        await pilot.press("down")
        server.answers["/debug/requests"] = rows("b", "c")
        await until(pilot, lambda: table.row_count == 2)
        await pilot.press("c")
        await until(pilot, lambda: bool(server.posted))

    with WatchedServer(fine("a", "b", "c") | {"/v1/abort": (200, {"aborted": 1})}) as server:
        drive(server.url, script)
        assert server.posted == [("/v1/abort", {"request_ids": ["b"]})]


def test_the_answers_of_one_request_have_a_row_each() -> None:
    async def script(app: TopApp, pilot: Pilot[None]) -> None:
        table = app.query_one(DataTable)
        await until(pilot, lambda: table.row_count == 2)
        assert [str(table.get_row_at(i)[0]) for i in range(2)] == ["a", "a [1]"]
        await pilot.press("down", "c")
        await until(pilot, lambda: bool(server.posted))

    two = {"requests": [{"request_id": "a", "index": i, "state": "decode", "num_blocks": None} for i in range(2)]}
    with WatchedServer(fine() | {"/debug/requests": (200, two), "/v1/abort": (200, {"aborted": 1})}) as server:
        drive(server.url, script)
        assert server.posted == [("/v1/abort", {"request_ids": ["a"]})]


def test_without_a_request_nothing_is_cancelled() -> None:
    async def script(app: TopApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "no live requests" in text_of(app, "#note"))
        await pilot.press("c")
        await pilot.pause()

    with WatchedServer(fine()) as server:
        drive(server.url, script)
        assert server.posted == []


def test_a_server_that_goes_away_is_shown_and_found_again() -> None:
    port = free_port()

    async def script(app: TopApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "unreachable" in text_of(app, "#state"))
        with WatchedServer(fine("a"), port):
            await until(pilot, lambda: "running  3" in text_of(app, "#figures"))
        await until(pilot, lambda: "unreachable" in text_of(app, "#state"))
        assert app.query_one("#state").has_class("bad")
        assert text_of(app, "#figures") == ""
        assert app.query_one(DataTable).row_count == 0
        recovering = fine() | {"/startup": (200, {**READY, "status": "recovering", "phase": "load weights"})}
        with WatchedServer(recovering, port) as server:
            await until(pilot, lambda: "recovering: load weights" in text_of(app, "#state"))
            server.answers.update(fine())
            await until(pilot, lambda: "ready" in text_of(app, "#state"))

    drive(f"http://127.0.0.1:{port}", script)


def test_requests_that_may_not_be_seen_are_told() -> None:
    async def script(app: TopApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "scope admin" in text_of(app, "#note"))
        assert "running  3" in text_of(app, "#figures")

    with WatchedServer(fine() | {"/debug/requests": (403, {})}) as server:
        drive(server.url, script)


def test_names_of_clients_are_text_and_no_markup() -> None:
    async def script(app: TopApp, pilot: Pilot[None]) -> None:
        table = app.query_one(DataTable)
        await until(pilot, lambda: table.row_count == 1)
        await pilot.press("c")
        await until(pilot, lambda: bool(server.posted))

    with WatchedServer(fine("[red]x[/nope]") | {"/v1/abort": (200, {"aborted": 1})}) as server:
        drive(server.url, script)
        assert server.posted == [("/v1/abort", {"request_ids": ["[red]x[/nope]"]})]


def test_a_pause_looks_no_more() -> None:
    async def script(app: TopApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "ready" in text_of(app, "#state"))
        await pilot.press("p")
        await until(pilot, lambda: not app.workers)
        server.answers["/startup"] = (200, {**READY, "status": "draining"})
        for _ in range(10):
            await pilot.pause(0.01)
        assert "ready" in text_of(app, "#state")
        await pilot.press("p")
        await until(pilot, lambda: "draining" in text_of(app, "#state"))

    with WatchedServer(fine()) as server:
        drive(server.url, script)
