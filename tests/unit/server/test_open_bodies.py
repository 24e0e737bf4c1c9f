"""Bodies that are read or worked on are bounded together."""

from __future__ import annotations

import asyncio
import json

from kvik.config.limits import RequestLimits
from support.live_server import live_server

BODY = json.dumps({"model": "tiny", "prompt": "x", "user": "y" * 600, "max_tokens": 5, "stream": True}).encode()


def test_one_more_than_fits_is_refused_and_the_others_go_on() -> None:
    async def run() -> None:
        async with live_server(limits=RequestLimits(max_open_body_bytes=1000)) as live:
            live.llm.script.hold_after = 1
            first, writer = await live.open("/v1/completions", BODY)
            status = await first.readline()
            assert b" 200 " in status
            refused, other = await live.open("/v1/completions", BODY)
            assert b" 429 " in await refused.readline()
            assert b"--max-open-body-bytes" in await refused.read(2000)
            other.close()
            writer.close()
            await live.until_aborted()
            while live.state.open_bodies.used_bytes:
                await asyncio.sleep(0)
            again, writer = await live.open("/v1/completions", BODY)
            assert b" 200 " in await again.readline()
            writer.close()

    asyncio.run(asyncio.wait_for(run(), 20))
