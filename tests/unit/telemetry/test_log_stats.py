from __future__ import annotations

import logging

import pytest

from kvik.messages import SchedulerStats, SpecDecodeStats, WaitingFor
from kvik.telemetry.log_stats import LogStats, PrefixCacheHitRate
from kvik.telemetry.stats import IterationStats


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, logger="kvik")
    return caplog


def test_the_line(clock: Clock, lines: pytest.LogCaptureFixture) -> None:
    log = LogStats("cpu", clock=clock)
    log.record(
        SchedulerStats(num_running=1, kv_cache_usage=0.003, prefix_cache_queries=256),
        IterationStats(num_prompt_tokens=300, num_cached_tokens=44, num_generation_tokens=45),
    )
    clock.now_s += 10
    log.log()
    assert lines.messages == [
        "Engine 000: Avg prompt throughput: 25.6 tokens/s, Avg generation throughput: 4.5 tokens/s, Running: 1 reqs, "
        "Waiting: 0 reqs, CPU KV cache usage: 0.3%, Prefix cache hit rate: 0.0%"
    ]


def test_parts_that_are_not_always_there(clock: Clock, lines: pytest.LogCaptureFixture) -> None:
    log = LogStats("cuda", engine_index=12, clock=clock)
    log.record(SchedulerStats(num_preemptions=2), IterationStats(num_generation_tokens=1))
    clock.now_s += 10
    log.log()
    assert lines.messages[0].startswith("Engine 012: ")
    assert "Preemptions: 2, GPU KV cache usage: 0.0%" in lines.messages[0]
    assert "hit rate" not in lines.messages[0]


def test_the_second_idle_line_and_those_after_it_are_debug(clock: Clock, lines: pytest.LogCaptureFixture) -> None:
    log = LogStats("cpu", clock=clock)
    for num_tokens in (0, 5, 0, 0, 0, 1):
        log.record(None, IterationStats(num_generation_tokens=num_tokens))
        clock.now_s += 10
        log.log()
    assert [record.levelname for record in lines.records] == ["DEBUG", "INFO", "INFO", "DEBUG", "DEBUG", "INFO"]


def test_an_interval_forgets_the_one_before(clock: Clock, lines: pytest.LogCaptureFixture) -> None:
    log = LogStats("cpu", clock=clock)
    log.record(None, IterationStats(num_generation_tokens=10))
    for _ in range(2):
        clock.now_s += 5
        log.log()
    assert "generation throughput: 2.0" in lines.messages[0]
    assert "generation throughput: 0.0" in lines.messages[1]


def test_the_hit_rate_is_of_the_last_thousand_lookups() -> None:
    rate = PrefixCacheHitRate()
    assert rate.percent is None
    rate.add(SchedulerStats(prefix_cache_queries=100, prefix_cache_hits=100))
    rate.add(SchedulerStats())
    assert rate.percent == 100
    for _ in range(1000):
        rate.add(SchedulerStats(prefix_cache_queries=10, prefix_cache_hits=5))
    assert rate.percent == 50


def test_a_reset_of_the_cache_restarts_the_hit_rate() -> None:
    rate = PrefixCacheHitRate()
    rate.add(SchedulerStats(prefix_cache_queries=10, prefix_cache_hits=10))
    rate.add(SchedulerStats(prefix_cache_queries=10, prefix_cache_hits=0, prefix_cache_was_reset=True))
    assert rate.percent == 0


def test_a_second_line_where_tokens_were_drafted(clock: Clock, lines: pytest.LogCaptureFixture) -> None:
    log = LogStats("cpu", clock=clock)
    for accepted in ([1, 1, 0], [1]):
        drafts = SpecDecodeStats(1, len(accepted), sum(accepted), accepted)
        log.record(SchedulerStats(spec_decode=drafts), IterationStats(num_generation_tokens=3))
    clock.now_s += 10
    log.log()
    assert lines.messages[1] == (
        "SpecDecoding metrics: Mean acceptance length: 2.50, Accepted throughput: 0.30 tokens/s, "
        "Drafted throughput: 0.40 tokens/s, Accepted: 3 tokens, Drafted: 4 tokens, "
        "Per-position acceptance rate: 1.000, 0.500, 0.000, Avg Draft acceptance rate: 75.0%"
    )
    log.log()
    assert len(lines.messages) == 3


def test_the_line_says_what_is_waited_for(clock: Clock, lines: pytest.LogCaptureFixture) -> None:
    log = LogStats("cpu", clock=clock)
    waiting_for = WaitingFor(blocks=3, grammar=2)
    log.record(SchedulerStats(num_waiting=3, waiting_for=waiting_for), IterationStats(num_generation_tokens=1))
    log.log()
    assert "Waiting: 5 reqs, Deferred: 2 reqs, CPU KV" in lines.messages[0]
    assert lines.messages[0].endswith(", Waiting for: blocks 3 grammar 2")
