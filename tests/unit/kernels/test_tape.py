"""A tape: replays against calls, and each way in which a computation cannot be replayed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from kvik.kernels import runtime
from kvik.kernels.arena import Arena, empty
from kvik.kernels.embedding import embedding
from kvik.kernels.gated_activation import gated_activation
from kvik.kernels.linear import PackedWeight, linear
from kvik.kernels.rms_norm import rms_norm
from kvik.kernels.tape import Counts, RecordingError, Tape

pytestmark = pytest.mark.skipif(runtime.native is None, reason="no native build")

MOST = Counts(9, 3, 2)
SIZE = 32
TABLE = torch.randn(11, SIZE)
WEIGHT = torch.randn(SIZE)
IDS = torch.zeros(MOST.num_rows, dtype=torch.int32)
PACKED = PackedWeight.allocate(24, SIZE, torch.float32)
PACKED.fill_rows(0, torch.randn(24, SIZE))


def compute(counts: Counts) -> torch.Tensor:
    hidden = embedding(IDS[: counts.num_rows], TABLE, torch.float32)
    for _ in range(3):
        hidden = rms_norm(hidden, WEIGHT, 1e-5)
    return gated_activation(linear(hidden, PACKED), "silu")


def record(function: Callable[[Counts], torch.Tensor] = compute) -> Tape:
    return Tape(function, MOST, Arena(1 << 16), [TABLE, WEIGHT, IDS, PACKED.data])


def test_a_replay_gives_the_bits_of_the_calls_for_every_count() -> None:
    tape = record()
    for num_rows in (9, 1, 4, 0, 9, 2):
        IDS[:num_rows] = torch.randint(0, 11, (num_rows,), dtype=torch.int32)
        tape.replay(Counts(num_rows))
        assert torch.equal(tape.result[:num_rows], compute(Counts(num_rows)))


def test_recording_computes_nothing_and_its_end_is_the_end() -> None:
    tape = record()
    tape.result.fill_(5.0)
    record()
    assert torch.all(tape.result == 5.0)
    x = torch.randn(2, SIZE)
    assert torch.equal(rms_norm(x, WEIGHT, 1e-5), rms_norm(x.clone(), WEIGHT, 1e-5))


def test_an_id_outside_its_table_is_found_at_replay() -> None:
    tape = record()
    IDS[:3] = torch.tensor([1, 2, 11])
    with pytest.raises(IndexError, match="embedding: the id of row 2 lies outside of its table"):
        tape.replay(Counts(3))
    IDS.zero_()


@pytest.mark.parametrize("counts", [Counts(10), Counts(1, 4), Counts(1, 1, 3)])
def test_counts_beyond_the_recorded_ones_are_refused(counts: Counts) -> None:
    tape = record()
    assert not tape.fits(counts)
    with pytest.raises(ValueError, match="at most Counts"):
        tape.replay(counts)


@pytest.mark.parametrize("change", [lambda x: x + 1, lambda x: x.mul_(2), lambda x: torch.relu(x), lambda x: x.clone()])
def test_an_op_of_torch_cannot_be_replayed(change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    with pytest.raises(RecordingError, match=r"torch's .* was called"):
        record(lambda counts: rms_norm(change(compute(counts)), WEIGHT[:12], 1e-5))


def test_memory_that_nobody_vouches_for_is_foreign() -> None:
    stranger = torch.ones(SIZE)
    with pytest.raises(RecordingError, match="argument 2 of rms_norm points to memory that may be gone"):
        record(lambda counts: rms_norm(embedding(IDS[: counts.num_rows], TABLE, torch.float32), stranger, 1e-5))


def test_a_copy_made_on_the_way_is_foreign() -> None:
    def copying(counts: Counts) -> torch.Tensor:
        return rms_norm(embedding(IDS[: counts.num_rows], TABLE, torch.float32)[:, :12], WEIGHT[:12], 1e-5)

    with pytest.raises(RecordingError, match="argument 1 of rms_norm points to memory"):
        record(copying)


def test_rows_that_are_not_the_steps_are_found() -> None:
    def doubled(counts: Counts) -> torch.Tensor:
        return rms_norm(empty(2 * counts.num_rows, SIZE), WEIGHT, 1e-5)

    with pytest.raises(RecordingError, match="argument 3 of rms_norm is 18, but the step's num_rows is 9"):
        record(doubled)


def test_a_number_made_from_the_counts_is_found() -> None:
    def eps_by_rows(counts: Counts) -> torch.Tensor:
        return rms_norm(empty(counts.num_rows, SIZE), WEIGHT, float(counts.num_rows))

    with pytest.raises(RecordingError, match="argument 5 of rms_norm depends on the number of tokens"):
        record(eps_by_rows)


def test_calls_that_depend_on_the_counts_are_found() -> None:
    def special_case(counts: Counts) -> torch.Tensor:
        hidden = compute(counts)
        return hidden if counts.num_rows == 1 else rms_norm(hidden, WEIGHT[:12], 1e-5)

    with pytest.raises(RecordingError, match="which kernels are called depends"):
        record(special_case)


def test_an_arena_too_small_is_said_so_and_recording_is_over() -> None:
    with pytest.raises(RecordingError, match="do not fit"):
        Tape(compute, MOST, Arena(1024), [TABLE, WEIGHT, IDS, PACKED.data])
    assert rms_norm(torch.ones(1, SIZE), torch.ones(SIZE), 0.0).tolist() == [[1.0] * SIZE]
