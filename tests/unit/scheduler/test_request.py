"""A request's transitions, and what ends it."""

from __future__ import annotations

from typing import Any

import pytest

from kvik.errors import EngineError
from kvik.messages import NewRequest
from kvik.sampling_params import SamplingParams
from kvik.scheduler import Request, RequestStatus
from kvik.scheduler.stop import check_stop


def make(*outputs: int, eos_token_id: int | None = 7, max_model_len: int = 100, **params: Any) -> Request:
    message = NewRequest("r", [1, 2, 3], SamplingParams(**params), 0.0, eos_token_id)
    request = Request.from_message(message, max_model_len)
    request.token_ids += outputs
    return request


def test_only_the_pictured_transitions_are_possible() -> None:
    request = make()
    request.move_to(RequestStatus.RUNNING)
    request.move_to(RequestStatus.PREEMPTED)
    with pytest.raises(EngineError, match="r cannot go from preempted to finished_stopped"):
        request.move_to(RequestStatus.FINISHED_STOPPED)
    request.move_to(RequestStatus.RUNNING)
    request.move_to(RequestStatus.FINISHED_STOPPED)
    with pytest.raises(EngineError, match="from finished_stopped to running"):
        request.move_to(RequestStatus.RUNNING)


STOPPED, CAPPED = RequestStatus.FINISHED_STOPPED, RequestStatus.FINISHED_LENGTH_CAPPED


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (make(5), None),
        (make(5, 7), (STOPPED, None)),
        (make(7, eos_token_id=None), None),
        (make(9, stop_token_ids=[8, 9]), (STOPPED, 9)),
        (make(7, stop_token_ids=[7]), (STOPPED, None)),  # EOS is looked at first
        (make(7, max_tokens=1), (STOPPED, None)),  # and before the length
        (make(9, stop_token_ids=[9], max_tokens=1), (STOPPED, 9)),
        (make(5, max_tokens=1), (CAPPED, None)),
        (make(5, max_tokens=2), None),
        (make(5, max_tokens=None, max_model_len=4), (CAPPED, None)),
        (make(5, max_tokens=9, max_model_len=5), None),
    ],
)
def test_what_ends_a_request(request_: Request, expected: object) -> None:
    assert check_stop(request_) == expected


def test_the_runner_gets_a_copy_of_the_tokens() -> None:
    request = make(5)
    admitted = request.as_admitted()
    request.token_ids.append(6)
    assert admitted.token_ids == [1, 2, 3, 5]
