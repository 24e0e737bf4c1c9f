from __future__ import annotations

import asyncio
import statistics
from itertools import pairwise

import pytest

from kvik.bench.load import Load, drive, due_times_s
from kvik.errors import ConfigError


def test_all_at_once() -> None:
    assert due_times_s(Load(), 3, 0) == [0.0, 0.0, 0.0]


def test_a_rate_is_kept_over_the_run_and_is_reproducible() -> None:
    times = due_times_s(Load(request_rate=4.0), 200, seed=5)
    assert times[-1] == pytest.approx(50.0)
    assert times == sorted(times) == due_times_s(Load(request_rate=4.0), 200, seed=5)


def test_burstiness_is_the_shape_of_the_gaps() -> None:
    def spread(burstiness: float) -> float:
        times = due_times_s(Load(10.0, burstiness), 2000, seed=1)
        gaps = [b - a for a, b in pairwise(times)]
        return statistics.pstdev(gaps) / statistics.fmean(gaps)

    assert spread(100.0) == pytest.approx(0.1, rel=0.2)
    assert spread(1.0) == pytest.approx(1.0, rel=0.2)
    assert spread(0.25) == pytest.approx(2.0, rel=0.2)


def test_no_more_than_asked_run_at_once_and_results_keep_their_order() -> None:
    running, most = 0, 0

    async def ask(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return number * 10

    done: list[int] = []
    results, seconds = asyncio.run(drive(range(9), ask, Load(max_concurrency=3), on_done=done.append))
    assert results == [n * 10 for n in range(9)]
    assert sorted(done) == results
    assert most == 3
    assert seconds > 0


@pytest.mark.parametrize(
    "flags", [{"request_rate": 0.0}, {"request_rate": float("nan")}, {"burstiness": 0.0}, {"max_concurrency": 0}]
)
def test_loads_that_cannot_be(flags: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        Load(**flags)  # type: ignore[arg-type]
