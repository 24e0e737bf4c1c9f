"""One measured run: prompts to an endpoint under a load, with warm-ups before and a progress bar beside it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, TypeVar

from kvik.bench.answer import Answer, read_answer
from kvik.bench.client import RawAnswer, post
from kvik.bench.datasets import Prompt
from kvik.bench.endpoint import Endpoint
from kvik.bench.load import Load, drive
from kvik.bench.progress import Progress

T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """What is sent, where and how."""

    endpoint: Endpoint
    prompts: Sequence[Prompt]
    load: Load
    seed: int = 0
    num_warmups: int = 0
    """Requests before, with the first prompts; not counted."""
    request_timeout_s: float | None = None


def measure(run: Run, is_shown: bool = False) -> tuple[list[Answer], float]:
    """Answers in the order of the prompts, and the seconds from the first request to the last answer's end."""
    return run_loop(measure_async(run, is_shown))


def run_loop(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` on the loop that costs least; a server on the same cores has the rest."""
    if find_spec("uvloop") is None:  # it is not there for Windows
        return asyncio.run(work)
    import uvloop

    result: T = uvloop.run(work)
    return result


async def measure_async(run: Run, is_shown: bool = False) -> tuple[list[Answer], float]:
    """The same, inside an event loop. Bytes are read once all is over: the cores belong to the server until then."""
    await _warm_up(run)
    requests = [run.endpoint.request(prompt) for prompt in run.prompts]
    gc.collect()
    gc.disable()  # a collection in the middle of a run would show as a gap between tokens
    try:
        with Progress(len(requests), is_shown) as bar:
            raws, duration_s = await drive(
                requests,
                lambda request: post(run.endpoint, request, run.request_timeout_s),
                run.load,
                run.seed,
                lambda raw: bar.advance(_seems_failed(raw)),
            )
    finally:
        gc.enable()
    answers = [read_answer(raw, prompt.num_tokens) for raw, prompt in zip(raws, run.prompts, strict=True)]
    return answers, duration_s


async def probe(endpoint: Endpoint, prompt: Prompt, timeout_s: float) -> Answer:
    """A single request."""
    return read_answer(await post(endpoint, endpoint.request(prompt), timeout_s), prompt.num_tokens)


async def _warm_up(run: Run) -> None:
    count = run.num_warmups
    prompts = [run.prompts[i % len(run.prompts)] for i in range(count)]
    load = Load(max_concurrency=run.load.max_concurrency)
    await drive(
        [run.endpoint.request(p) for p in prompts], lambda r: post(run.endpoint, r, run.request_timeout_s), load
    )


def _seems_failed(raw: RawAnswer) -> bool:
    """Judged by the first bytes alone; the whole is read afterwards."""
    return bool(raw.error) or not raw.pieces or b" 200 " not in raw.pieces[0][:20]
