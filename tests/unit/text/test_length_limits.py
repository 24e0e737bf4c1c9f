from __future__ import annotations

import pytest

from kvik.errors import InvalidRequestError
from kvik.sampling_params import SamplingParams
from kvik.text.length_limits import check_text_length, check_token_count, resolve_max_tokens, truncate


def test_a_text_that_may_fit_passes() -> None:
    check_text_length("x" * 80, 10, 8)
    with pytest.raises(InvalidRequestError, match=r"81 characters.*80") as caught:
        check_text_length("x" * 81, 10, 8)
    assert caught.value.param == "input_text"


@pytest.mark.parametrize(("count", "param"), [(9, None), (10, "max_tokens"), (11, "input_tokens")])
def test_a_prompt_must_leave_room(count: int, param: str | None) -> None:
    if param is None:
        check_token_count(count, 10)
        return
    with pytest.raises(InvalidRequestError, match=r"\b10\b") as caught:
        check_token_count(count, 10)
    assert caught.value.param == param


@pytest.mark.parametrize(("asked", "resolved"), [(None, 6), (3, 3), (6, 6), (7, 6), (10, 6)])
def test_max_tokens_is_clamped_to_what_the_prompt_leaves(asked: int | None, resolved: int) -> None:
    assert resolve_max_tokens(SamplingParams(max_tokens=asked), 4, 10) == resolved


def test_more_than_the_context_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="at most the context of 10 tokens, got 11; 6 are left") as caught:
        resolve_max_tokens(SamplingParams(max_tokens=11), 4, 10)
    assert caught.value.param == "max_tokens"


def test_min_tokens_must_fit_too() -> None:
    with pytest.raises(InvalidRequestError, match="at most 6") as caught:
        resolve_max_tokens(SamplingParams(max_tokens=9, min_tokens=7), 4, 10)
    assert caught.value.param == "min_tokens"


def test_truncation() -> None:
    ids = list(range(20))
    assert truncate(ids, None, "left", 10, None) == ids
    assert truncate(ids, 3, "left", 10, None) == [17, 18, 19]
    assert truncate(ids, 3, "right", 10, None) == [0, 1, 2]
    assert truncate(ids, -1, "left", 10, 4) == [14, 15, 16, 17, 18, 19]
    assert truncate(ids, -1, "left", 10, None) == ids[-9:]
    assert truncate([1, 2], 5, "left", 10, None) == [1, 2]


@pytest.mark.parametrize("limit", [0, -2, 11])
def test_impossible_truncation(limit: int) -> None:
    with pytest.raises(InvalidRequestError, match="from 1 to 10") as caught:
        truncate([1], limit, "left", 10, None)
    assert caught.value.param == "truncate_prompt_tokens"
