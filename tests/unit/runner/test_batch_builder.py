from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvik.kernels.batch_rows import BatchArrays
from kvik.runner.batch_builder import BatchBuilder
from kvik.runner.request_table import RequestTable
from kvik.sampling_params import SamplingParams
from kvik.step import AdmittedRequest, ScheduledRequest, StepPlan

BLOCK_SIZE = 4


def builder(table: RequestTable) -> BatchBuilder:
    return BatchBuilder(table, BLOCK_SIZE, [], BatchArrays(128, 6, 8, 6))


def admitted(request_id: str, token_ids: list[int]) -> AdmittedRequest:
    return AdmittedRequest(request_id, token_ids, len(token_ids), SamplingParams(temperature=0), None)


def test_a_prompt_chunk_beside_a_decode() -> None:
    table = RequestTable(4, 32, BLOCK_SIZE, 100)
    table.admit(admitted("prompt", [10, 11, 12, 13, 14, 15]))
    table.admit(admitted("decode", [20, 21, 22]))
    plan = StepPlan([], [ScheduledRequest("prompt", 2, 3, [7, 5]), ScheduledRequest("decode", 2, 1, [9])], [])
    batch, rows = builder(table).build(plan)
    assert [row.request_id for row in rows] == ["prompt", "decode"]
    assert batch.token_ids.tolist() == [12, 13, 14, 22]
    assert batch.positions.tolist() == [2, 3, 4, 2]
    assert batch.slot_mapping.tolist() == [7 * 4 + 2, 7 * 4 + 3, 5 * 4, 9 * 4 + 2]
    assert batch.query_start_loc.tolist() == [0, 3, 4]
    assert batch.seq_lens.tolist() == [5, 3]
    assert batch.block_tables.tolist() == [[7, 5], [9, 0]]
    assert batch.logits_rows.tolist() == [3]  # the prompt has a token left to compute


def test_drafts_are_computed_behind_the_newest_token_and_their_logits_are_wanted() -> None:
    table = RequestTable(4, 32, BLOCK_SIZE, 100)
    table.admit(admitted("drafts", [20, 21, 22]))
    table.admit(admitted("prompt", [10, 11, 12, 13, 14, 15]))
    table.admit(admitted("decode", [30, 31]))
    table.admit(admitted("more", [40]))
    plan = StepPlan(
        [],
        [
            ScheduledRequest("drafts", 2, 3, [9, 3], [7, 8]),
            ScheduledRequest("prompt", 2, 3, [7, 5]),
            ScheduledRequest("decode", 1, 1, [4]),
            ScheduledRequest("more", 0, 2, [6], [5]),
        ],
        [],
    )
    batch, rows = builder(table).build(plan)
    assert batch.token_ids.tolist() == [22, 7, 8, 12, 13, 14, 31, 40, 5]
    assert batch.positions.tolist() == [2, 3, 4, 2, 3, 4, 1, 0, 1]
    assert batch.slot_mapping.tolist()[:3] == [9 * 4 + 2, 9 * 4 + 3, 3 * 4]
    assert batch.seq_lens.tolist() == [5, 5, 2, 2]
    assert batch.logits_rows.tolist() == [0, 1, 2, 6, 7, 8]
    table.append_token(rows[0], 7)
    table.append_token(rows[0], 50)
    batch, _ = builder(table).build(StepPlan([], [ScheduledRequest("drafts", 4, 1, [])], []))
    assert batch.token_ids.tolist() == [50]
    assert batch.logits_rows.tolist() == [0]


Share = st.tuples(st.integers(1, 20), st.integers(0, 19), st.integers(1, 20))


@given(st.lists(Share, min_size=1, max_size=6))
def test_every_token_has_its_position_and_slot(shares: list[tuple[int, int, int]]) -> None:
    """Against a loop over tokens, for any mix of lengths and shares."""
    table = RequestTable(6, 32, BLOCK_SIZE, 1000)
    scheduled, expected, next_block = [], [], 1
    for i, (length, computed, count) in enumerate(shares):
        computed = min(computed, length - 1)
        count = min(count, length - computed)
        token_ids = [100 * i + t for t in range(length)]
        table.admit(admitted(str(i), token_ids))
        blocks = list(range(next_block, next_block + -(-(computed + count) // BLOCK_SIZE)))
        next_block += len(blocks)
        scheduled.append(ScheduledRequest(str(i), computed, count, blocks))
        expected += [
            (token_ids[p], p, blocks[p // BLOCK_SIZE] * BLOCK_SIZE + p % BLOCK_SIZE)
            for p in range(computed, computed + count)
        ]
    batch, _ = builder(table).build(StepPlan([], scheduled, []))
    columns = (batch.token_ids.tolist(), batch.positions.tolist(), batch.slot_mapping.tolist())
    assert list(zip(*columns, strict=True)) == expected
    ends = [s.num_computed_tokens + s.num_scheduled_tokens for s in scheduled]
    assert batch.seq_lens.tolist() == ends
    assert len(batch.logits_rows) == sum(end == length for end, (length, *_) in zip(ends, shares, strict=True))


def test_a_step_after_a_larger_one_shows_its_own_numbers_only() -> None:
    table = RequestTable(4, 32, BLOCK_SIZE, 100)
    table.admit(admitted("a", [10, 11, 12, 13, 14]))
    build = builder(table).build
    build(StepPlan([], [ScheduledRequest("a", 0, 4, [7])], []))
    batch, _ = build(StepPlan([], [ScheduledRequest("a", 4, 1, [5])], []))
    first = batch.positions.data_ptr()
    assert (batch.token_ids.tolist(), batch.positions.tolist(), batch.slot_mapping.tolist()) == ([14], [4], [20])
    assert (batch.block_tables.tolist(), batch.logits_rows.tolist()) == ([[7, 5]], [0])
    again, _ = build(StepPlan([], [ScheduledRequest("a", 3, 1, [])], []))
    assert again.positions.tolist() == [3]
    assert again.positions.data_ptr() == first


def test_all_rows_of_a_request_have_its_adapters_slot() -> None:
    table = RequestTable(4, 32, BLOCK_SIZE, 100)
    made = builder(table)
    for name, tokens, slot in (("a", [1, 2, 3], 2), ("b", [4], -1), ("c", [5, 6], 0)):
        request = admitted(name, tokens)
        request.lora_slot = slot
        table.admit(request)
    drafted = ScheduledRequest("c", 1, 3, [3], [7, 8])
    batch, _ = made.build(
        StepPlan([], [ScheduledRequest("a", 0, 3, [1]), ScheduledRequest("b", 0, 1, [2]), drafted], [])
    )
    assert batch.lora_slots is not None
    assert batch.lora_slots.tolist() == [2, 2, 2, -1, 0, 0, 0]
    batch, _ = made.build(StepPlan([], [ScheduledRequest("b", 0, 1, [])], []))
    assert batch.lora_slots is None
