"""Many prompts in one request: tokenised in bulk, handed over in small portions, so that others have their turns."""

from __future__ import annotations

import asyncio

from kvik.sampling_params import SamplingParams
from kvik.server.generation import EngineCall, Generation
from kvik.text.processor import PromptOptions
from support.server_without_engine import make_server


def test_others_have_their_turns_between_prompts() -> None:
    async def run() -> tuple[int, int]:
        llm = make_server().llm
        num_most_at_once, num_seen, is_done = 0, 0, False

        async def watch() -> None:
            nonlocal num_most_at_once, num_seen
            while not is_done:
                await asyncio.sleep(0)
                num_most_at_once = max(num_most_at_once, len(llm.asked) - num_seen)
                num_seen = len(llm.asked)

        watching = asyncio.create_task(watch())
        call = EngineCall(prompts=["a"] * 500, params=SamplingParams(), request_id="x", options=PromptOptions())
        generation = await Generation.start(llm, call)  # type: ignore[arg-type]
        is_done = True
        await watching
        await generation.close()
        return len(llm.asked), num_most_at_once

    num_asked, num_most_at_once = asyncio.run(run())
    assert num_asked == 500
    assert num_most_at_once <= 16
