"""An answer that repeats itself ends, where the request wants that; a prompt that does is nobody's business."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvik.errors import InvalidRequestError
from kvik.messages import NewRequest
from kvik.sampling_params import RepetitionDetection, SamplingParams
from kvik.scheduler.repetition import ends_in_repetition
from kvik.scheduler.request import Request, RequestStatus
from kvik.scheduler.stop import append_until_stop


@pytest.mark.parametrize(
    ("answer", "sizes", "min_count", "found"),
    [
        ([5, 5, 5], (1, 1), 3, True),
        ([5, 5], (1, 1), 3, False),
        ([1, 2, 1, 2], (1, 4), 2, True),
        ([1, 2, 1, 2], (3, 4), 2, False),
        ([9, 1, 2, 3, 1, 2, 3], (1, 3), 2, True),
        ([1, 2, 3, 1, 2], (1, 3), 2, False),
    ],
)
def test_patterns(answer: list[int], sizes: tuple[int, int], min_count: int, found: bool) -> None:
    wanted = RepetitionDetection(min_pattern_size=sizes[0], max_pattern_size=sizes[1], min_count=min_count)
    assert ends_in_repetition([7, 7, 7, *answer], 3, wanted) is found


def test_the_prompt_does_not_count() -> None:
    wanted = RepetitionDetection(max_pattern_size=4)
    assert not ends_in_repetition([5, 5, 5, 5], 3, wanted)
    assert not ends_in_repetition([5, 5, 5, 5], 4, wanted)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=24), st.integers(1, 4), st.integers(0, 4), st.integers(2, 4))
def test_it_is_what_the_definition_says(answer: list[int], least: int, more: int, count: int) -> None:
    wanted = RepetitionDetection(min_pattern_size=least, max_pattern_size=least + more, min_count=count)
    sizes = range(least, least + more + 1)
    expected = any(
        len(answer) >= s * count and answer[len(answer) - s * count :] == answer[len(answer) - s :] * count
        for s in sizes
    )
    assert ends_in_repetition([8, *answer], 1, wanted) is expected


def request(**params: object) -> Request:
    wanted = RepetitionDetection(max_pattern_size=2, min_count=3)
    sampling = SamplingParams(max_tokens=100, repetition_detection=wanted, **params)  # type: ignore[arg-type]
    return Request.from_message(NewRequest("r", [1, 1, 1, 1], sampling, 0.0), 1000)


def test_the_request_ends_with_it() -> None:
    assert append_until_stop(request(), [3, 4, 3, 4, 3, 4, 3, 4]) == (
        6,
        (RequestStatus.FINISHED_REPETITION, "repetition_detected"),
    )
    assert append_until_stop(request(min_tokens=8), [3, 4, 3, 4, 3, 4, 3, 4]) == (
        8,
        (RequestStatus.FINISHED_REPETITION, "repetition_detected"),
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_pattern_size": 2000},
        {"max_pattern_size": 2, "min_pattern_size": 3},
        {"max_pattern_size": 2, "min_count": 1},
    ],
)
def test_what_makes_no_sense_is_refused_by_name(wrong: dict[str, int]) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        RepetitionDetection(**wrong)
    assert (caught.value.param or "").startswith("repetition_detection.")
