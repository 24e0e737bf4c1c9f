"""kvik top in front of a real server."""

from __future__ import annotations

import asyncio
import threading

from textual.widgets import DataTable, Static

from kvik.cli.top.app import TopApp
from kvik.cli.top.source import Source
from support.server import KvikServer


def test_a_request_is_seen_and_cancelled(server: KvikServer) -> None:
    reasons: list[str] = []

    def ask() -> None:
        body = {"prompt": "Once", "max_tokens": 4000, "ignore_eos": True, "request_id": "seen-in-top"}
        reasons.append(server.request("POST", "/v1/completions", body)[1]["choices"][0]["finish_reason"])

    async def watch() -> None:
        app = TopApp(Source(f"http://127.0.0.1:{server.port}", None), 0.1)
        async with app.run_test(size=(120, 40)) as pilot:
            table = app.query_one(DataTable)
            while not table.row_count:
                await pilot.pause(0.02)
            assert str(table.get_row_at(0)[0]) == "cmpl-seen-in-top"
            assert "ready" in str(app.query_one("#state", Static).render())
            assert "kv cache" in str(app.query_one("#memory", Static).render()).replace("_", " ")
            await pilot.press("c")
            while table.row_count:
                await pilot.pause(0.02)

    asking = threading.Thread(target=ask)
    asking.start()
    asyncio.run(watch())
    asking.join(20)
    assert reasons == ["abort"]
