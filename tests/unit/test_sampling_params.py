"""Sampling parameters on their own: what is refused, and what canonical form does to the limits of greedy."""

from __future__ import annotations

import math
from typing import Any

import pytest

from kvik.errors import InvalidRequestError
from kvik.sampling_params import SamplingParams

FLOAT_FIELDS = ("temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", FLOAT_FIELDS)
def test_no_field_takes_nan_or_infinity(name: str, value: float) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        SamplingParams(**{name: value})
    assert refused.value.param == name


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_bias_is_nan_or_infinite(value: float) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        SamplingParams(logit_bias={1: 0.5, 2: value})
    assert refused.value.param == "logit_bias"


@pytest.mark.parametrize("temperature", [0.0, 5e-324, 1e-30, 1e-5, 0.009999])
def test_temperatures_near_zero_are_zero(temperature: float) -> None:
    params = SamplingParams(temperature=temperature, top_p=0.5, top_k=7, min_p=0.3)
    assert params.is_greedy
    assert params.clamped() == SamplingParams(temperature=0.0)


def test_a_hundredth_is_still_random() -> None:
    params = SamplingParams(temperature=0.01)
    assert not params.is_greedy
    assert params.clamped() is params


@pytest.mark.parametrize("limit", [{"top_p": 1e-9}, {"top_p": 5e-324}, {"min_p": 1.0}, {"min_p": 1 - 2**-26}])
def test_filters_that_leave_one_token_say_so(limit: dict[str, Any]) -> None:
    params = SamplingParams(temperature=1.5, top_k=40, **limit).clamped()
    assert (params.temperature, params.top_k, params.top_p, params.min_p) == (1.5, 1, 1.0, 0.0)


def test_several_greedy_answers_may_be_asked_for() -> None:
    assert SamplingParams(n=3, temperature=0).clamped().n == 3
