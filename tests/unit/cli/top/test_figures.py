from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvik.cli.top.figures import LATENCY_WINDOW_S, Figures, History, increase, quantile
from kvik.cli.top.scrape import Scrape, parse_scrape


def scrape_of(
    generated: int = 0, computed: int = 0, hits: int = 0, queries: int = 0, ttft: tuple[int, ...] = (0, 0, 0)
) -> Scrape:
    """`ttft`: how many requests took up to 0.1 s, up to 1 s, and longer (cumulative)."""
    return parse_scrape(
        f"""kvik:num_requests_running 3
kvik:num_requests_waiting 2
kvik:num_requests_waiting_for{{resource="blocks"}} 2
kvik:num_requests_waiting_for{{resource="slots"}} 0
kvik:generation_tokens_total {generated}
kvik:prompt_tokens_by_source_total{{source="local_compute"}} {computed}
kvik:prompt_tokens_by_source_total{{source="local_cache_hit"}} 1000000
kvik:prefix_cache_queries_total {queries}
kvik:prefix_cache_hits_total {hits}
kvik:kv_cache_usage_perc 0.25
kvik:memory_bytes{{part="weights"}} 100
kvik:memory_limit_bytes{{part="weights"}} 100
kvik:memory_bytes{{part="kv_cache"}} 50
kvik:time_to_first_token_seconds_bucket{{le="0.1"}} {ttft[0]}
kvik:time_to_first_token_seconds_bucket{{le="1.0"}} {ttft[1]}
kvik:time_to_first_token_seconds_bucket{{le="+Inf"}} {ttft[2]}
"""
    )


def figures_of(*scrapes: tuple[float, Scrape]) -> Figures:
    history = History()
    for at_s, scrape in scrapes:
        history.add(at_s, scrape)
    figures = history.figures()
    assert figures is not None
    return figures


def test_a_first_look_has_states_and_no_rates() -> None:
    figures = figures_of((0, scrape_of(generated=500)))
    assert (figures.num_running, figures.num_waiting) == (3, 2)
    assert figures.waiting_for == {"blocks": 2}
    assert figures.kv_cache_usage == 0.25
    assert figures.generated_tokens_per_s is None
    assert figures.prefix_cache_hit_rate is None
    assert figures.time_to_first_token is None
    assert [(m.part, m.used_bytes, m.limit_bytes) for m in figures.memory] == [
        ("weights", 100, 100),
        ("kv_cache", 50, None),
    ]


def test_rates_are_those_of_the_last_seconds() -> None:
    looks = [(float(s), scrape_of(generated=10 * s, computed=3 * s)) for s in range(11)]
    looks += [(11.0 + s, scrape_of(generated=100 + 40 * (s + 1), computed=30)) for s in range(5)]
    figures = figures_of(*looks)
    assert figures.generated_tokens_per_s == pytest.approx(40)
    assert figures.prompt_tokens_per_s == pytest.approx(0)


def test_prompt_tokens_that_the_cache_had_are_no_throughput() -> None:
    assert figures_of((0, scrape_of()), (2, scrape_of(computed=64))).prompt_tokens_per_s == 32


def test_hits_and_percentiles_are_of_the_window_and_not_since_the_start() -> None:
    before = scrape_of(hits=1000, queries=1000, ttft=(900, 900, 900))
    figures = figures_of((0, before), (1, scrape_of(hits=1010, queries=1040, ttft=(900, 1000, 1000))))
    assert figures.prefix_cache_hit_rate == 0.25
    ttft = figures.time_to_first_token
    assert ttft is not None
    assert ttft.num_values == 100
    assert ttft.p50_s == pytest.approx(0.55)
    assert ttft.p99_s == pytest.approx(0.991)


def test_what_is_older_than_the_window_is_forgotten() -> None:
    late = LATENCY_WINDOW_S + 10
    figures = figures_of((0, scrape_of()), (5, scrape_of(ttft=(7, 7, 7))), (late, scrape_of(ttft=(7, 7, 8))))
    assert figures.time_to_first_token is not None
    assert figures.time_to_first_token.num_values == 1


def test_counters_that_began_anew_are_not_negative() -> None:
    figures = figures_of(
        (0, scrape_of(generated=5000, ttft=(50, 50, 50))), (2, scrape_of(generated=20, ttft=(4, 4, 4)))
    )
    assert figures.generated_tokens_per_s == 10
    assert figures.time_to_first_token is not None
    assert figures.time_to_first_token.num_values == 4


def test_a_history_can_be_forgotten() -> None:
    history = History()
    history.add(0, scrape_of(generated=1))
    history.clear()
    assert history.figures() is None


def test_a_server_that_says_nothing_has_no_figures() -> None:
    figures = figures_of((0, parse_scrape("")), (1, parse_scrape("")))
    assert figures.num_running is None
    assert figures.generated_tokens_per_s is None
    assert figures.kv_cache_usage is None
    assert figures.memory == ()


def test_the_field_knows_two_reasons() -> None:
    text = 'vllm:num_requests_running 1\nvllm:num_requests_waiting_by_reason{reason="deferred"} 4\n'
    assert figures_of((0, parse_scrape(text))).waiting_for == {"deferred": 4}


def test_an_increase_is_never_negative() -> None:
    assert increase(5, 8) == 3
    assert increase(8, 5) == 5


def test_a_quantile_of_nothing_is_none() -> None:
    assert quantile(0.5, {}) is None
    assert quantile(0.5, {1.0: 0, math.inf: 0}) is None


def test_beyond_the_last_bound_the_bound_is_all_that_is_known() -> None:
    assert quantile(0.99, {1.0: 1, 2.0: 1, math.inf: 100}) == 2.0


COUNTS = st.lists(st.integers(0, 50), min_size=1, max_size=8).filter(any)


@given(COUNTS, st.floats(0.001, 1))
def test_a_quantile_lies_in_the_bucket_that_holds_it(counts: list[int], share: float) -> None:
    cumulative = {float(i + 1): float(sum(counts[: i + 1])) for i in range(len(counts))}
    value = quantile(share, cumulative)
    assert value is not None
    values = [i + 1 for i, count in enumerate(counts) for _ in range(count)]
    exact = values[max(math.ceil(share * len(values) - 1e-9), 1) - 1]
    assert exact - 1 - 1e-6 <= value <= exact + 1e-6


@given(COUNTS)
def test_quantiles_rise(counts: list[int]) -> None:
    cumulative = {float(i + 1): float(sum(counts[: i + 1])) for i in range(len(counts))}
    found = [quantile(share / 10, cumulative) or 0.0 for share in range(1, 11)]
    assert found == sorted(found)
