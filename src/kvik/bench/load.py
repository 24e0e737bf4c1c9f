"""When requests go out: a rate, its burstiness, a limit on how many run at once. Knows no socket and no prompt."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from kvik.errors import ConfigError

P = TypeVar("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Load:
    """How a list of requests is sent."""

    request_rate: float = float("inf")
    """Requests per second; inf: all at once."""
    burstiness: float = 1.0
    """Shape of the gamma distribution of gaps: 1 is a Poisson process, below it is burstier, above it steadier."""
    max_concurrency: int | None = None
    """Requests that run at once; None: no limit."""

    def __post_init__(self) -> None:
        if not self.request_rate > 0:
            raise ConfigError(f"--request-rate must be above 0 (inf: all at once), got {self.request_rate}")
        if not 0 < self.burstiness < float("inf"):
            raise ConfigError(f"--burstiness must be above 0 (1: Poisson), got {self.burstiness}")
        if self.max_concurrency is not None and self.max_concurrency < 1:
            raise ConfigError(f"--max-concurrency must be at least 1, got {self.max_concurrency}")


def due_times_s(load: Load, count: int, seed: int) -> list[float]:
    """Seconds after the start at which each request is due.

    Gaps are drawn from a gamma distribution of mean 1 / rate, then scaled so that the last request is due at
    count / rate exactly: a run with few requests has the rate that was asked for, too.
    """
    if load.request_rate == float("inf"):
        return [0.0] * count
    draw = random.Random(seed)
    theta = 1 / (load.request_rate * load.burstiness)
    due, times = 0.0, []
    for _ in range(count):
        due += draw.gammavariate(load.burstiness, theta)
        times.append(due)
    scale = count / load.request_rate / due if due > 0 else 1.0
    return [time_s * scale for time_s in times]


async def drive(
    prompts: Sequence[P],
    ask: Callable[[P], Awaitable[R]],
    load: Load,
    seed: int = 0,
    on_done: Callable[[R], None] = lambda result: None,
) -> tuple[list[R], float]:
    """Ask for every prompt when it is due; results in the order of the prompts, and the seconds that all took."""
    slots = asyncio.Semaphore(load.max_concurrency or max(1, len(prompts)))
    started_s = time.perf_counter()

    async def one(prompt: P, due_s: float) -> R:
        if (wait_s := started_s + due_s - time.perf_counter()) > 0:
            await asyncio.sleep(wait_s)
        async with slots:
            result = await ask(prompt)
        on_done(result)
        return result

    due = due_times_s(load, len(prompts), seed)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(p, d)) for p, d in zip(prompts, due, strict=True)]
    return [task.result() for task in tasks], time.perf_counter() - started_s
