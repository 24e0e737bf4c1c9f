"""The phases of a request, from the times of its sequences."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvik.telemetry.request_times import RequestTimes, joined

WHOLE = RequestTimes(
    1.0, 1.5, 3.5, 4.0, 9.0, finished_s=9.5, num_tokens=6, num_prompt_tokens=10, num_cached_tokens=8,
    num_preemptions=1, detokenize_s=0.25, waiting_for="slots", finish_reason="stop",
)  # fmt: skip


def phases(times: RequestTimes) -> list[float]:
    return [times.prepare_s, times.queue_s, times.prefill_s, times.decode_s]


def test_the_phases_follow_each_other() -> None:
    assert phases(WHOLE) == [0.5, 2.0, 0.5, 5.0]
    assert (WHOLE.inference_s, WHOLE.total_s) == (5.5, 8.5)


def test_what_never_began_took_no_time() -> None:
    assert phases(RequestTimes(1.0)) == [0, 0, 0, 0]
    assert RequestTimes(1.0).total_s == 0


def test_who_never_ran_was_in_the_queue_until_its_end() -> None:
    aborted = RequestTimes(1.0, 1.5, finished_s=31.5)
    assert phases(aborted) == [0.5, 30.0, 0, 0]
    assert aborted.total_s == 30.5


def test_a_request_that_goes_on_has_a_total_so_far() -> None:
    assert RequestTimes(1.0, 1.5, 2.0, 3.0, 5.0).total_s == 4.0


def test_prompts_count_once_and_tokens_each() -> None:
    sibling = replace(WHOLE, scheduled_s=5.0, first_token_s=6.0, last_token_s=12.0, finished_s=12.5, finish_reason="x")
    other = replace(WHOLE, num_prompt_tokens=3, num_cached_tokens=0, waiting_for=None)
    whole = joined([[WHOLE, sibling], [other]])
    assert (whole.num_prompt_tokens, whole.num_cached_tokens, whole.num_tokens) == (13, 8, 18)
    assert (whole.num_preemptions, whole.detokenize_s) == (3, 0.75)
    assert phases(whole) == [0.5, 2.0, 0.5, 8.0]
    assert (whole.waiting_for, whole.finish_reason) == ("slots", "stop, x")


def test_who_has_not_begun_leaves_the_others_as_they_are() -> None:
    assert joined([[WHOLE], [RequestTimes(1.0)]]).queue_s == WHOLE.queue_s


STEPS = st.lists(st.floats(0, 1e3), min_size=5, max_size=5)


@given(st.lists(STEPS, min_size=1, max_size=5))
def test_the_phases_of_a_request_never_exceed_its_total(all_steps: list[list[float]]) -> None:
    sequences = []
    for steps in all_steps:
        at = [1.0]
        for step in steps:
            at.append(at[-1] + step)
        sequences.append(RequestTimes(*at[:5], finished_s=at[5]))
    whole = joined([sequences])
    assert sum(phases(whole)) <= whole.total_s + 1e-6
    assert whole.total_s == pytest.approx(max(s.finished_s for s in sequences) - 1.0)
