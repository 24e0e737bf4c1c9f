"""Adapters as on a GPU, with Triton in the interpreter, against the same factors in fp64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import torch

from kvik.kernels.lora import LoraFactors, LoraSlots, lora
from support.triton_interpreter import standing_in_for_gpu

BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32
SIZES = [([40], 33, 3), ([64, 16, 16], 130, 8), ([100, 7], 64, 17)]
TOLERANCE = {F32: 1e-5, F16: 4e-3, BF16: 3e-2}


@pytest.fixture(autouse=True)
def gpu() -> Iterator[None]:
    with standing_in_for_gpu():
        yield


def filled(sizes: Sequence[int], num_inputs: int, max_rank: int, dtype: torch.dtype) -> LoraSlots:
    """Three adapters: the second leaves the first part alone, the last has rank 1."""
    generator = torch.Generator().manual_seed(0)
    slots = LoraSlots(sizes, num_inputs, 3, max_rank, dtype)
    for slot in range(3):
        for part, size in enumerate(sizes):
            rank = 1 if slot == 2 else max_rank
            a = torch.randn(rank, num_inputs, generator=generator) / num_inputs**0.5
            b = torch.randn(size, rank, generator=generator) / rank**0.5
            slots.write(slot, part, None if (slot, part) == (1, 0) else LoraFactors(a, b, 0.5 + slot))
    return slots


def inputs(slots: LoraSlots, rows: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, slots.num_inputs, generator=generator).to(dtype)
    before = torch.randn(rows, slots.num_outputs, generator=generator).to(dtype)
    row_slots = torch.tensor([(i * i // 5) % 4 - 1 for i in range(rows)], dtype=torch.int32)
    return x, before, row_slots


def exact(x: torch.Tensor, before: torch.Tensor, row_slots: torch.Tensor, slots: LoraSlots) -> torch.Tensor:
    out = before.double()
    for row, slot in enumerate(row_slots.tolist()):
        first = 0
        for part, size in enumerate(slots.sizes):
            factors = slots.read(slot, part) if slot >= 0 else None
            if factors is not None:
                narrow = factors.a.double() @ x[row].double()
                out[row, first : first + size] += factors.scale * (factors.b.double() @ narrow)
            first += size
    return out


@pytest.mark.parametrize("dtype", [F32, BF16, F16])
@pytest.mark.parametrize(("sizes", "num_inputs", "max_rank"), SIZES)
@pytest.mark.parametrize("rows", [1, 13, 37])
def test_against_float64(rows: int, sizes: list[int], num_inputs: int, max_rank: int, dtype: torch.dtype) -> None:
    slots = filled(sizes, num_inputs, max_rank, dtype)
    x, before, row_slots = inputs(slots, rows, dtype)
    result = before.clone()
    lora(result, x, row_slots, slots)
    expected = exact(x, before, row_slots, slots)
    torch.testing.assert_close(result.double(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    assert torch.equal(result[row_slots < 0], before[row_slots < 0])
    if rows == 37:
        assert (result != before).any()


def test_k_in_one_piece_and_in_several(monkeypatch: pytest.MonkeyPatch) -> None:
    import kvik.kernels.lora.triton as kernels

    slots = filled([40, 24], 300, 8, F32)
    x, before, row_slots = inputs(slots, 9, F32)
    expected = exact(x, before, row_slots, slots)
    for programs in (1, 4, 1000):
        settings = {"BLOCK_M": 16, "BLOCK_N": 32, "BLOCK_K": 32, "num_warps": 4, "num_stages": 2, "programs": programs}
        monkeypatch.setattr(kernels, "launch", lambda op, rows, settings=settings: dict(settings))
        result = before.clone()
        lora(result, x, row_slots, slots)
        torch.testing.assert_close(result.double(), expected, rtol=1e-5, atol=1e-5)


def test_a_row_does_not_depend_on_what_is_in_the_others() -> None:
    slots = filled([40, 24], 50, 8, BF16)
    x, before, row_slots = inputs(slots, 13, BF16)
    whole = before.clone()
    lora(whole, x, row_slots, slots)
    x[4] = torch.nan
    others = torch.arange(13) != 4
    poisoned = before.clone()
    lora(poisoned, x, row_slots, slots)
    assert torch.equal(poisoned[others], whole[others])
    elsewhere = before.clone()
    lora(elsewhere, x, torch.where(others, row_slots, 1).to(torch.int32), slots)
    assert torch.equal(elsewhere[others], whole[others])


def test_a_smaller_rank_over_a_larger_one_leaves_nothing_behind() -> None:
    slots = LoraSlots([20], 30, 1, 32, F32)
    slots.write(0, 0, LoraFactors(torch.full((32, 30), torch.inf), torch.full((20, 32), torch.nan), 7.0))
    slots.write(0, 0, LoraFactors(torch.ones(3, 30), torch.ones(20, 3), 1.5))
    out = torch.zeros(4, 20)
    lora(out, torch.ones(4, 30), torch.zeros(4, dtype=torch.int32), slots)
    assert (out == 135.0).all()


def test_the_output_may_be_columns_of_a_wider_one() -> None:
    slots = filled([12], 20, 4, F32)
    x, before, row_slots = inputs(slots, 6, F32)
    wide = torch.zeros(6, 40)
    wide[:, 5:17] = before
    lora(wide[:, 5:17], x, row_slots, slots)
    torch.testing.assert_close(wide[:, 5:17].double(), exact(x, before, row_slots, slots), rtol=1e-5, atol=1e-5)
    assert not wide[:, :5].any()
    assert not wide[:, 17:].any()


def test_a_slot_gives_back_what_was_written() -> None:
    slots = LoraSlots([5, 18], 7, 2, 9, BF16)
    factors = LoraFactors(torch.randn(3, 7).to(BF16), torch.randn(18, 3).to(BF16), 0.25)
    slots.write(1, 1, factors)
    read = slots.read(1, 1)
    assert read is not None
    assert torch.equal(read.a, factors.a.float())
    assert torch.equal(read.b, factors.b.float())
    assert slots.read(1, 0) is None


def test_no_rows_and_dtypes_that_differ() -> None:
    slots = LoraSlots([4], 6, 1, 2, BF16)
    none = torch.zeros(0, dtype=torch.int32)
    lora(torch.zeros(0, 4), torch.zeros(0, 6), none, slots)
    with pytest.raises(ValueError, match=r"out is torch.float32, x torch.bfloat16 .* the same"):
        lora(torch.zeros(0, 4), torch.zeros(0, 6).bfloat16(), none, slots)
