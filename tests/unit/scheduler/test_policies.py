"""Queues against a sorted list."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvik.messages import NewRequest
from kvik.sampling_params import SamplingParams
from kvik.scheduler.policies import ByPriority, FirstComeFirstServed
from kvik.scheduler.request import Request


def make(index: int, priority: int = 0, arrival_time_s: float = 0.0) -> Request:
    message = NewRequest(f"r{index}", [1], SamplingParams(), arrival_time_s, priority=priority)
    return Request.from_message(message, max_model_len=10)


turns = st.tuples(st.integers(-2, 2), st.sampled_from([0.0, 1.0]))


@given(st.lists(turns, max_size=12), st.lists(st.tuples(st.booleans(), st.integers(0, 11)), max_size=30))
def test_by_priority_is_a_sorted_list(turns: list[tuple[int, float]], operations: list[tuple[bool, int]]) -> None:
    requests = [make(i, *turn) for i, turn in enumerate(turns)]
    queue, model = ByPriority(), []
    for request in requests:
        queue.push(request)
        model.append(request)
    for is_removal, index in operations:
        request = requests[index] if index < len(requests) else None
        if request is None:
            continue
        if is_removal and request in model:
            queue.remove(request)
            model.remove(request)
        elif not is_removal and request not in model:
            queue.reinsert(request)
            model.append(request)
        model.sort(key=lambda r: (r.priority, r.arrival_time_s, r.request_id))
        assert list(queue) == model
        assert len(queue) == len(model)
        if model:
            assert queue.peek() is model[0]
            assert queue.victim(model) is model[-1]


def test_first_come_first_served_puts_the_preempted_in_front() -> None:
    queue = FirstComeFirstServed()
    first, second, third = (make(i) for i in range(3))
    queue.push(second)
    queue.push(third)
    queue.reinsert(first)
    assert list(queue) == [first, second, third]
    queue.remove(second)
    assert [queue.peek(), len(queue)] == [first, 2]
    assert queue.victim([first, third]) is third


@pytest.mark.parametrize("queue", [FirstComeFirstServed(), ByPriority()])
def test_an_empty_queue_has_no_first(queue: ByPriority) -> None:
    with pytest.raises(IndexError, match="no request waits"):
        queue.peek()
    with pytest.raises(KeyError):
        queue.remove(make(0))
