from __future__ import annotations

import torch

from kvik.runner.last_tokens import LastTokens, places_in_flight
from kvik.runner.request_table import RequestTable
from kvik.sampling_params import SamplingParams
from kvik.step import AdmittedRequest, ScheduledRequest


def test_what_was_kept_by_row_is_filled_into_a_batch() -> None:
    last = LastTokens(4)
    last.keep([2, 0], torch.tensor([7, 9]))
    last.keep([2], torch.tensor([8]))
    token_ids = torch.tensor([1, -1, 2, -1], dtype=torch.int32)
    last.fill(token_ids, [(1, 0), (3, 2)])
    assert token_ids.tolist() == [1, 9, 2, 8]
    last.fill(token_ids, [])
    assert token_ids.tolist() == [1, 9, 2, 8]


def test_many_batches_leave_a_bounded_memory_and_the_right_rows() -> None:
    last = LastTokens(40)
    for first in [*range(30), 0, 3, 0]:
        last.keep([first, first + 1], torch.tensor([first, first + 50]))
        token_ids = torch.full((2,), -1, dtype=torch.int32)
        last.fill(token_ids, [(0, first + 1), (1, first)])
        assert token_ids.tolist() == [first + 50, first]
        assert len(last._indices) <= 16


def test_a_request_that_got_no_token_leaves_one_that_can_be_computed() -> None:
    last = LastTokens(1)
    last.keep([0], torch.tensor([-1]))
    token_ids = torch.tensor([-1], dtype=torch.int32)
    last.fill(token_ids, [(0, 0)])
    assert token_ids.tolist() == [0]


def test_only_inputs_that_the_host_does_not_know_are_filled_in() -> None:
    table = RequestTable(4, 32, 4, 100)
    for request_id in ("prompt", "known", "awaited"):
        table.admit(AdmittedRequest(request_id, [1, 2, 3], 3, SamplingParams(temperature=0), None))
    table.await_token(table["awaited"])
    table.append_token(table["known"], 5)
    shares = [
        ScheduledRequest("prompt", 0, 3, []),
        ScheduledRequest("known", 3, 1, [], input_in_flight=True),  # the step before is over by now
        ScheduledRequest("awaited", 3, 1, [], input_in_flight=True),
    ]
    rows = [table[share.request_id] for share in shares]
    assert places_in_flight(shares, rows) == [(4, table["awaited"].index)]
