from __future__ import annotations

import pytest

from kvik.errors import InvalidRequestError
from kvik.runner.request_table import RequestTable
from kvik.sampling_params import SamplingParams
from kvik.step import AdmittedRequest


def admitted(request_id: str, token_ids: list[int], **params: object) -> AdmittedRequest:
    return AdmittedRequest(request_id, token_ids, len(token_ids), SamplingParams(temperature=0, **params), None)


@pytest.fixture
def table() -> RequestTable:
    return RequestTable(max_num_seqs=2, max_model_len=10, block_size=4, vocab_size=100)


def test_a_request_has_its_tokens_and_blocks_in_its_row(table: RequestTable) -> None:
    table.admit(admitted("a", [5, 6, 7]))
    row = table["a"]
    table.append_blocks(row, [9])
    table.append_token(row, 8)
    table.append_blocks(row, [])
    table.append_blocks(row, [3, 4])
    assert table.token_ids[row.index, :4].tolist() == [5, 6, 7, 8]
    assert table.block_ids[row.index].tolist() == [9, 3, 4]
    assert (row.num_prompt_tokens, row.num_tokens, row.num_blocks) == (3, 4, 3)
    assert list(row.sampling.token_ids) == [5, 6, 7, 8]


def test_rows_are_given_again_when_their_request_is_dropped(table: RequestTable) -> None:
    table.admit(admitted("a", [1]))
    table.admit(admitted("b", [2]))
    first = table["a"].index
    table.drop("a")
    table.drop("never seen")
    table.admit(admitted("c", [3]))
    assert table["c"].index == first
    assert len(table) == 2


def test_an_awaited_token_has_its_place_before_it_is_known(table: RequestTable) -> None:
    table.admit(admitted("a", [5, 6, 7]))
    row = table["a"]
    table.await_token(row)
    table.await_token(row)
    assert (row.num_tokens, row.num_sure_tokens) == (3, 5)
    assert table.token_ids[row.index, :5].tolist() == [5, 6, 7, -1, -1]
    table.append_token(row, 8)
    assert (row.num_tokens, row.num_sure_tokens) == (4, 5)
    assert table.token_ids[row.index, :5].tolist() == [5, 6, 7, 8, -1]


def test_a_token_that_comes_after_its_request_was_dropped_changes_nobodys_row(table: RequestTable) -> None:
    table.admit(admitted("a", [5, 6, 7]))
    gone = table["a"]
    table.await_token(gone)
    table.drop("a")
    table.admit(admitted("b", [1, 2]))
    table.append_token(gone, 8)
    assert table.token_ids[table["b"].index, :3].tolist() == [1, 2, 7]
    assert table["b"].num_tokens == 2


def test_the_token_after_the_last_position_has_no_place_and_needs_none(table: RequestTable) -> None:
    table.admit(admitted("a", list(range(10))))
    row = table["a"]
    table.append_token(row, 99)
    assert row.num_tokens == 11
    assert table.token_ids[row.index].tolist() == list(range(10))


def test_a_refused_request_takes_no_row(table: RequestTable) -> None:
    with pytest.raises(InvalidRequestError, match="allowed_token_ids"):
        table.admit(admitted("a", [1], allowed_token_ids=[100]))
    assert len(table) == 0
    table.admit(admitted("b", [1]))
    table.admit(admitted("c", [1]))
