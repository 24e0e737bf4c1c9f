from __future__ import annotations

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvik.bench.answer import Answer
from kvik.bench.load import Load
from kvik.bench.metrics import parse_goodput, parse_metrics, parse_percents, percentile, spread_ms, summarise
from kvik.bench.report import detailed_fields, failure_lines, report, result_fields
from kvik.errors import ConfigError

ANSWERS = [
    Answer(100.0, 10, 3, ttft_s=0.5, itl_s=[0.1, 0.3], latency_s=0.9, text="abc"),
    Answer(100.5, 20, 1, ttft_s=0.2, latency_s=0.2, text="d"),
    Answer(101.0, 30, error="HTTP 400: too long"),
]


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=50), st.floats(0, 100))
def test_percentiles_and_deviation_are_numpys(values: list[float], percent: float) -> None:
    spread = spread_ms(values, (percent,))
    ms = numpy.array(values) * 1e3
    assert spread.percentiles[0][1] == pytest.approx(float(numpy.percentile(ms, percent)), abs=1e-6)
    assert spread.std == pytest.approx(float(numpy.std(ms)), abs=1e-6)
    assert spread.median == pytest.approx(float(numpy.median(ms)), abs=1e-6)


def test_percentile_of_one_value() -> None:
    assert percentile([4.0], 99) == 4.0


def test_a_summary_counts_successes_and_leaves_lost_requests_out() -> None:
    s = summarise(ANSWERS, 2.0, (50.0, 99.0), {"ttft": 300.0})
    assert (s.num_completed, s.num_failed, s.num_input_tokens, s.num_output_tokens) == (2, 1, 30, 4)
    assert (s.request_throughput, s.output_throughput, s.total_token_throughput) == (1.0, 2.0, 17.0)
    assert s.request_goodput == 0.5
    assert s.spreads["tpot"].mean == pytest.approx(200.0)  # (0.9 - 0.5) / 2; the request of one token has none
    assert s.spreads["itl"].median == pytest.approx(200.0)
    assert s.max_concurrent_requests == 2
    assert s.max_output_tokens_per_s == 4


def test_a_run_in_which_all_failed() -> None:
    s = summarise(ANSWERS[2:], 1.0)
    assert (s.num_completed, s.output_throughput, s.spreads["ttft"].mean) == (0, 0.0, 0.0)


def test_the_report_is_laid_out_as_the_fields() -> None:
    lines = report(summarise(ANSWERS, 2.0), Load(max_concurrency=4), ("ttft", "e2el")).splitlines()
    assert lines[0] == "============ Serving Benchmark Result ============"
    assert lines[1] == "Successful requests:                     2"
    assert lines[3] == "Maximum request concurrency:             4"
    assert "---------------Time to First Token----------------" in lines
    assert "P99 E2EL (ms):                           893.00" in lines
    assert not any("TPOT" in line for line in lines)
    assert lines[-1] == "=" * 50


def test_keys_of_the_result_file() -> None:
    fields = result_fields(summarise(ANSWERS, 2.0, (99.0, 99.9)), ANSWERS)
    assert {
        "duration", "completed", "failed", "total_input_tokens", "total_output_tokens", "request_throughput",
        "request_goodput", "output_throughput", "total_token_throughput", "max_output_tokens_per_s",
        "max_concurrent_requests", "mean_ttft_ms", "median_tpot_ms", "std_itl_ms", "p99_e2el_ms", "p99.9_ttft_ms",
    } <= fields.keys()  # fmt: skip
    assert fields["failures"] == {"HTTP 400: too long": 1}
    assert {len(v) for v in detailed_fields(ANSWERS).values()} == {3}
    assert failure_lines(ANSWERS) == ["1 failed: HTTP 400: too long"]


def test_words_of_flags() -> None:
    assert parse_percents("50,99.9") == (50.0, 99.9)
    assert parse_metrics("ttft, itl") == ("ttft", "itl")
    assert parse_goodput(["ttft:200", "e2el:1e3"]) == {"ttft": 200.0, "e2el": 1000.0}
    assert parse_goodput([]) is None


@pytest.mark.parametrize("text", ["", "a", "101", "50,,99", "nan"])
def test_bad_percentiles(text: str) -> None:
    with pytest.raises(ConfigError, match="--metric-percentiles takes numbers"):
        parse_percents(text)


@pytest.mark.parametrize("word", ["ttft", "itl:3", "ttft:-1", "e2el:x", "ttft:nan"])
def test_bad_goodput(word: str) -> None:
    with pytest.raises(ConfigError, match="--goodput takes ttft:MS"):
        parse_goodput([word])


def test_an_unknown_metric() -> None:
    with pytest.raises(ConfigError, match="latency is none of ttft, tpot, itl, e2el"):
        parse_metrics("latency")
