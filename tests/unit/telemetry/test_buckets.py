from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvik.telemetry.buckets import FAMILIES, bucket_families, one_two_five


@pytest.mark.parametrize(
    ("limit", "series"), [(1, [1]), (4, [1, 2]), (512, [1, 2, 5, 10, 20, 50, 100, 200, 500]), (10, [1, 2, 5, 10])]
)  # fmt: skip
def test_one_two_five(limit: int, series: list[int]) -> None:
    assert one_two_five(limit) == series


@given(st.integers(1, 10**7))
def test_the_series_ends_just_below_the_limit(limit: int) -> None:
    series = one_two_five(limit)
    assert series == sorted(set(series))
    assert series[-1] <= limit < series[-1] * 2.5 + 0.5


def test_every_family_rises() -> None:
    for bounds in bucket_families(8192).values():
        assert bounds == sorted(set(bounds))
        assert bounds[0] > 0


def test_custom_bounds_replace_a_family_and_no_other() -> None:
    families = bucket_families(100, {"request_latency": [1, 2]})
    assert families["request_latency"] == [1, 2]
    assert families["inter_token_latency"] == list(FAMILIES["inter_token_latency"])
    assert families["request_tokens"] == [1, 2, 5, 10, 20, 50, 100]
