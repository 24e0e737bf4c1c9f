from __future__ import annotations

import pytest

from kvik.engine_client.admission.rate import DEFAULT_RETRY_AFTER_S, Mean, Throughput, retry_after


def test_nothing_is_said_before_anything_is_measured() -> None:
    rate = Throughput()
    rate.record(50, 0.1)
    assert rate.tokens_per_s is None
    assert rate.time_for(10) is None
    assert rate.retry_after_s(10) == DEFAULT_RETRY_AFTER_S


def test_a_steady_rate_is_found_and_a_new_one_followed() -> None:
    rate = Throughput()
    for _ in range(100):
        rate.record(10, 0.1)
    assert rate.tokens_per_s == pytest.approx(100)
    assert rate.time_for(1000) == pytest.approx(10)
    assert rate.retry_after_s(1001) == 11
    for _ in range(600):
        rate.record(50, 0.1)
    assert rate.tokens_per_s == pytest.approx(500, rel=0.02)


def test_retry_after_has_bounds() -> None:
    assert [retry_after(s) for s in (-3.0, 0.0, 1.2, 1e9)] == [1, 1, 2, 600]


def test_a_mean_follows() -> None:
    mean = Mean()
    assert mean.value is None
    mean.record(16.0)
    mean.record(32.0)
    assert mean.value == pytest.approx(17.0)
