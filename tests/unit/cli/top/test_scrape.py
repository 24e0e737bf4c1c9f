from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest

from kvik.cli.top.scrape import parse_scrape

ONE = """# HELP {0}num_requests_running x
# TYPE {0}num_requests_running gauge
{0}num_requests_running{{engine="0",model_name="m"}} 2.0
{0}num_requests_running{{engine="1",model_name="m"}} 3.0
{0}kv_cache_usage_perc{{engine="0"}} 0.25
{0}kv_cache_usage_perc{{engine="1"}} 0.5
http_requests_total{{handler="none"}} 7.0
"""


@pytest.mark.parametrize("prefix", ["kvik:", "vllm:", "mine_", ""])
def test_metrics_are_found_under_any_prefix(prefix: str) -> None:
    scrape = parse_scrape(ONE.format(prefix))
    assert scrape.total("num_requests_running") == 5
    assert scrape.total("num_requests_running", engine="1") == 3
    assert scrape.highest("kv_cache_usage_perc") == 0.5
    assert scrape.total("http_requests_total") == 7


def test_what_is_shown_under_two_prefixes_counts_once() -> None:
    scrape = parse_scrape(ONE.format("vllm:") + ONE.format("kvik:"))
    assert scrape.total("num_requests_running") == 5


def test_what_is_not_there_is_none_and_not_zero() -> None:
    scrape = parse_scrape(ONE.format("kvik:"))
    assert scrape.total("generation_tokens_total") is None
    assert scrape.highest("generation_tokens_total") is None
    assert scrape.total("num_requests_running", engine="9") is None
    assert scrape.buckets("num_requests_running") == {}


def test_buckets_rise_and_are_added_up_over_engines() -> None:
    registry = CollectorRegistry()
    histogram = Histogram("kvik:t_seconds", "x", ["engine"], buckets=(0.5, 1, 10), registry=registry)
    for engine, value in (("0", 0.2), ("0", 0.7), ("1", 0.7), ("1", 99)):
        histogram.labels(engine).observe(value)
    Gauge("kvik:num_requests_running", "x", registry=registry).set(1)
    buckets = parse_scrape(generate_latest(registry).decode()).buckets("t_seconds")
    assert buckets == {0.5: 1, 1.0: 3, 10.0: 3, math.inf: 4}


@given(st.dictionaries(st.text(min_size=1), st.integers(0, 1000), min_size=1))
def test_labels_come_back_as_they_were_written(values: dict[str, int]) -> None:
    registry = CollectorRegistry()
    gauge = Gauge("kvik:g", "x", ["part"], registry=registry)
    for part, value in values.items():
        gauge.labels(part).set(value)
    Gauge("kvik:num_requests_running", "x", registry=registry).set(1)
    assert parse_scrape(generate_latest(registry).decode()).by_label("g", "part") == values


@given(st.text())
def test_no_text_is_an_error(text: str) -> None:
    scrape = parse_scrape(text)
    assert scrape.total("num_requests_running") is None or "num_requests_running" in text


def test_lines_that_are_no_samples_are_passed_over() -> None:
    scrape = parse_scrape("<html>\nkvik:num_requests_running NaN\nkvik:num_requests_running 1 1700000000000\nx {\n")
    assert scrape.total("num_requests_running") == 1
