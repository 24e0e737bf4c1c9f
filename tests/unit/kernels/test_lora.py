from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from kvik.kernels.lora import LoraFactors, LoraSlots, lora, reference

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
SHAPES = [
    ([1], 1, 1), ([15], 2, 3), ([16, 8, 8], 33, 8), ([64, 16, 16], 127, 16), ([33, 17], 64, 17), ([130], 301, 64),
]  # fmt: skip


def filled(
    sizes: Sequence[int], num_inputs: int, max_rank: int, dtype: torch.dtype, num_slots: int = 3, seed: int = 0
) -> LoraSlots:
    """Slot 0 has the largest rank in all parts, slot 1 leaves its first part alone, the last has rank 1."""
    generator = torch.Generator().manual_seed(seed)
    slots = LoraSlots(sizes, num_inputs, num_slots, max_rank, dtype)
    for slot in range(num_slots):
        for part, size in enumerate(sizes):
            rank = 1 if slot == num_slots - 1 else max_rank
            a = torch.randn(rank, num_inputs, generator=generator) / num_inputs**0.5
            b = torch.randn(size, rank, generator=generator)
            slots.write(slot, part, None if (slot, part) == (1, 0) else LoraFactors(a, b, 0.5 + slot))
    return slots


def inputs(slots: LoraSlots, rows: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x, what the layer itself gave, and slots in runs of several lengths, rows without an adapter among them."""
    generator = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, slots.num_inputs, generator=generator)
    before = torch.randn(rows, slots.num_outputs, generator=generator)
    row_slots = torch.tensor([(i * i // 5) % 4 - 1 for i in range(rows)], dtype=torch.int32)
    return x, before, row_slots


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("sizes", "num_inputs", "max_rank"), SHAPES)
@pytest.mark.parametrize("rows", [1, 5, 13, 70])
def test_against_the_reference(
    isa: str, rows: int, sizes: list[int], num_inputs: int, max_rank: int, dtype: torch.dtype
) -> None:
    slots = filled(sizes, num_inputs, max_rank, dtype)
    x, before, row_slots = inputs(slots, rows)
    result, expected = before.clone(), before.double()
    lora(result, x, row_slots, slots)
    reference.lora(expected, x.double(), row_slots, _Doubles(slots))  # type: ignore[arg-type]
    torch.testing.assert_close(result.double(), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(result[row_slots < 0], before[row_slots < 0])


class _Doubles:
    """The same slots, read in float64."""

    def __init__(self, slots: LoraSlots) -> None:
        self.sizes = slots.sizes
        self._slots = slots

    def read(self, slot: int, part: int) -> LoraFactors | None:
        factors = self._slots.read(slot, part)
        return factors and LoraFactors(factors.a.double(), factors.b.double(), factors.scale)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("sizes", "num_inputs", "max_rank"), SHAPES)
def test_a_row_does_not_depend_on_the_others(
    isa: str, sizes: list[int], num_inputs: int, max_rank: int, dtype: torch.dtype
) -> None:
    slots = filled(sizes, num_inputs, max_rank, dtype)
    x, before, row_slots = inputs(slots, 70)
    whole = before.clone()
    lora(whole, x, row_slots, slots)
    for row in range(70):
        alone = before[row : row + 1].clone()
        lora(alone, x[row : row + 1], row_slots[row : row + 1], slots)
        assert torch.equal(alone, whole[row : row + 1]), row
    x[9] = torch.nan
    poisoned = before.clone()
    lora(poisoned, x, row_slots, slots)
    others = torch.arange(70) != 9
    assert torch.equal(poisoned[others], whole[others])


def test_a_slot_does_not_change_what_others_give(isa: str) -> None:
    few, many = filled([40, 24], 50, 16, torch.bfloat16, 2), filled([40, 24], 50, 16, torch.bfloat16, 5)
    for part in range(2):
        many.write(4, part, few.read(0, part))
    x, before, _ = inputs(few, 9)
    one, other = before.clone(), before.clone()
    lora(one, x, torch.full((9,), 0, dtype=torch.int32), few)
    lora(other, x, torch.full((9,), 4, dtype=torch.int32), many)
    assert torch.equal(one, other)


def test_a_smaller_rank_over_a_larger_one_leaves_nothing_behind(isa: str) -> None:
    slots, fresh = LoraSlots([20], 30, 1, 32, torch.float32), LoraSlots([20], 30, 1, 32, torch.float32)
    large = LoraFactors(torch.full((32, 30), 1e30), torch.full((20, 32), 1e30), 7.0)
    small = LoraFactors(torch.randn(3, 30), torch.randn(20, 3), 1.5)
    slots.write(0, 0, large)
    slots.write(0, 0, small)
    fresh.write(0, 0, small)
    x, before, _ = inputs(slots, 4)
    results = [before.clone(), before.clone()]
    for result, where in zip(results, (slots, fresh), strict=True):
        lora(result, x, torch.zeros(4, dtype=torch.int32), where)
    assert torch.equal(*results)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_slot_gives_back_what_was_written(dtype: torch.dtype) -> None:
    slots = LoraSlots([5, 18], 7, 2, 9, dtype)
    factors = LoraFactors(torch.randn(3, 7).to(dtype), torch.randn(18, 3).to(dtype), 0.25)
    slots.write(1, 1, factors)
    read = slots.read(1, 1)
    assert read is not None
    assert torch.equal(read.a, factors.a.float())
    assert torch.equal(read.b, factors.b.float())
    assert read.scale == 0.25
    assert slots.read(1, 0) is None


def test_the_output_may_be_columns_of_a_wider_one(isa: str) -> None:
    slots = filled([12], 20, 4, torch.float32)
    x, before, row_slots = inputs(slots, 6)
    wide = torch.zeros(6, 40)
    wide[:, 5:17] = before
    lora(wide[:, 5:17], x, row_slots, slots)
    lora(before, x, row_slots, slots)
    assert torch.equal(wide[:, 5:17], before)
    assert not wide[:, :5].any()
    assert not wide[:, 17:].any()


@pytest.mark.parametrize(
    ("out", "x", "rows"),
    [
        (torch.zeros(3, 4), torch.zeros(3, 5), torch.zeros(3, dtype=torch.int32)),
        (torch.zeros(3, 5), torch.zeros(3, 6), torch.zeros(3, dtype=torch.int32)),
        (torch.zeros(3, 4), torch.zeros(3, 6), torch.zeros(2, dtype=torch.int32)),
        (torch.zeros(3, 4), torch.zeros(3, 6), torch.zeros(3, dtype=torch.int64)),
        (torch.zeros(3, 4), torch.zeros(3, 6).bfloat16(), torch.zeros(3, dtype=torch.int32)),
    ],
)
def test_what_does_not_fit_is_refused(out: torch.Tensor, x: torch.Tensor, rows: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="must be"):
        lora(out, x, rows, LoraSlots([4], 6, 1, 2, torch.float32))


@pytest.mark.parametrize(("a", "b"), [((9, 6), (4, 9)), ((2, 5), (4, 2)), ((2, 6), (3, 2)), ((2, 6), (4, 3))])
def test_factors_that_do_not_fit_are_refused(a: tuple[int, int], b: tuple[int, int]) -> None:
    slots = LoraSlots([4], 6, 1, 8, torch.float32)
    with pytest.raises(ValueError, match="do not fit"):
        slots.write(0, 0, LoraFactors(torch.zeros(a), torch.zeros(b), 1.0))
