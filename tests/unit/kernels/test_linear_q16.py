"""linear, rows and embedding of weights in 16-bit fixed point, against the reference and plain arithmetic."""

from __future__ import annotations

import pytest
import torch

from kvik.kernels import runtime
from kvik.kernels.embedding import embedding
from kvik.kernels.linear import FIXED_POINT, PackedWeight, linear, reference, takes
from kvik.layers.formats import float_format

ROW_COUNTS = [*range(1, 18), 24, 25, 31, 32, 33, 63, 64, 65]
SHAPES = [(1, 1), (15, 3), (16, 16), (17, 31), (33, 64), (100, 127), (144, 576)]  # N, K
F32 = torch.float32


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def packed(weight: torch.Tensor) -> PackedWeight:
    result = PackedWeight.allocate(*weight.shape, FIXED_POINT)
    result.fill_rows(0, weight)
    return result


def rounded_inputs(x: torch.Tensor) -> torch.Tensor:
    """By the reference: what identity matrices make of it."""
    return reference.fixed_point_linear(x, torch.eye(x.shape[1]))


def assert_near(actual: torch.Tensor, x: torch.Tensor, weight: torch.Tensor) -> None:
    """Within the error of an fp32 sum of a few terms over what was rounded, and near the product of what was not."""
    inputs, rows = rounded_inputs(x), reference.fixed_point(weight.float(), reference.WEIGHT_RANGE)
    exact, magnitude = inputs.double() @ rows.double().T, inputs.abs().double() @ rows.abs().double().T
    assert actual.dtype is F32
    assert ((actual - exact).abs() <= 2e-6 * magnitude).all()
    unrounded = x.double() @ weight.double().T
    steps = x.abs().amax().double() / 4095 * weight.double().abs().sum(1) + (
        x.double().abs().sum(1, keepdim=True) * weight.double().abs().amax(1) / 16383
    )
    assert ((actual - unrounded).abs() <= 0.51 * steps + 2e-6 * magnitude).all()


@pytest.mark.parametrize(("n", "k"), SHAPES)
def test_against_float64(isa: str, n: int, k: int) -> None:
    plain, bias = random(n, k), random(n, seed=1)
    weight, wide = packed(plain), random(65, k, seed=2)
    for rows in ROW_COUNTS:
        x = wide[:rows]
        without = linear(x, weight)
        assert_near(without, x, plain)
        assert torch.equal(linear(x, weight, bias), without + bias)


def test_the_reference_is_the_same_arithmetic(isa: str) -> None:
    plain, x = random(33, 100), random(7, 100, seed=1)
    rows = reference.fixed_point(plain, reference.WEIGHT_RANGE)
    torch.testing.assert_close(linear(x, packed(plain)), reference.fixed_point_linear(x, rows), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("n", "k"), [(100, 127), (33, 64), (70, 2500), (130, 1100)])  # two take K in several blocks
def test_a_row_has_the_same_bits_in_any_company(isa: str, n: int, k: int) -> None:
    weight, x = packed(random(n, k)), random(400, k, seed=1)
    alone = torch.cat([linear(row[None], weight) for row in x])
    for rows in [*ROW_COUNTS, 192, 193, 400]:
        assert torch.equal(linear(x[:rows], weight), alone[:rows]), rows
        assert torch.equal(linear(x[400 - rows :], weight), alone[400 - rows :]), rows


def test_any_number_of_threads_gives_the_same_bits(isa: str) -> None:
    weight, x = packed(random(500, 300)), random(200, 300, seed=1)
    runtime.set_num_threads(1)
    expected = linear(x, weight)
    for num_threads in (2, 3, 7):
        runtime.set_num_threads(num_threads)
        assert torch.equal(linear(x, weight), expected)
        assert torch.equal(linear(x[:1], weight), expected[:1])


def test_every_instruction_set_with_fused_multiply_add_gives_the_same_bits() -> None:
    weight, x = packed(random(50, 300)), random(20, 300, seed=1)
    results = []
    for name in runtime.native.available_isas():
        runtime.native.select_isa(name)
        if name != "generic":
            results.append(linear(x, weight))
    runtime.native.select_isa(runtime.native.available_isas()[0])
    assert all(torch.equal(result, results[0]) for result in results)


def test_the_largest_sums_of_a_group_do_not_overflow(isa: str) -> None:
    """32 products of both ranges' ends."""
    ends = torch.tensor([1.0, -1.0]).repeat(32)
    weight, x = (16383 * ends)[None].repeat(3, 1), (4095 * ends)[None]
    weight[1] *= -1
    weight[2, ::3] = 5.0
    result = linear(x, packed(weight))
    torch.testing.assert_close(result.double(), x.double() @ weight.double().T, rtol=1e-6, atol=0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_nan_and_infinity_stay_in_their_row(isa: str, bad: float) -> None:
    weight, x = packed(random(40, 33)), random(20, 33, seed=1)
    expected = linear(x, weight)
    for column in (0, 31, 32):
        poisoned = x.clone()
        poisoned[11, column] = bad
        result = linear(poisoned, weight)
        assert result[11].isnan().all()
        assert torch.equal(result[:11], expected[:11])
        assert torch.equal(result[12:], expected[12:])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_flaw_in_the_weight_stays_in_its_column(isa: str, bad: float) -> None:
    plain, x = random(40, 33), random(5, 33, seed=1)
    expected = linear(x, packed(plain))
    plain = plain.clone()
    plain[17, 32] = bad
    result = linear(x, packed(plain))
    assert result[:, 17].isnan().all()
    assert torch.equal(result[:, :17], expected[:, :17])
    assert torch.equal(result[:, 18:], expected[:, 18:])


def test_numbers_at_the_ends_of_the_range(isa: str) -> None:
    """Huge ones do not overflow on the way, and those that no quotient can be taken of are zeros."""
    x = torch.tensor([[3e38, 1e38], [1e-31, -1e-32], [0.0, 0.0], [1e-29, 1e-30]])
    plain = torch.tensor([[1.0, 0.5], [1e-32, 1e-33]])
    result = linear(x, packed(plain))
    torch.testing.assert_close(result[[0, 3], 0], x[[0, 3]] @ plain[0], rtol=1e-3, atol=0)
    assert torch.equal(result[1:3, 0], torch.zeros(2))
    assert torch.equal(result[:, 1], torch.zeros(4))


@pytest.mark.parametrize("rows", [1, 5, 13])
def test_touches_nothing_beyond_its_output(isa: str, rows: int) -> None:
    weight, x = packed(random(21, 9)), random(rows, 9, seed=1)
    wide = torch.full((rows, 40), 42.0)
    linear(x, weight, None, wide, 7)
    assert torch.equal(wide[:, 7:28], linear(x, weight))
    assert (wide[:, :7] == 42).all()
    assert (wide[:, 28:] == 42).all()


@pytest.mark.parametrize("source", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(("n", "k"), SHAPES)
def test_pieces_at_any_row_become_their_rows(isa: str, n: int, k: int, source: torch.dtype) -> None:
    plain = random(n, k).to(source)
    weight = PackedWeight.allocate(n, k, FIXED_POINT)
    for first in range(0, n, 7):
        weight.fill_rows(first, plain[first : first + 7])
    expected = reference.fixed_point(plain.float(), reference.WEIGHT_RANGE)
    assert torch.equal(weight.plain(), expected)
    assert weight.nbytes == -(-n // 16) * (64 + -(-k // 32) * 1024)
    ids = torch.randint(n, (50,), dtype=torch.int32)
    assert torch.equal(weight.rows(ids), expected[ids])
    assert torch.equal(embedding(ids, weight, F32, 1.5), expected[ids] * 1.5)
    assert torch.equal(embedding(ids, weight, torch.bfloat16), expected[ids].bfloat16())
    with pytest.raises(IndexError, match=rf"ids\[1\] is {n}; it must lie in \[0, {n}\)"):
        weight.rows(torch.tensor([0, n], dtype=torch.int32))


def test_it_is_a_format_of_native_kernels_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="a weight on meta cannot be stored as q16, a format of the CPU's; take bf16"):
        PackedWeight.allocate(16, 16, FIXED_POINT, device="meta")
    with pytest.raises(ValueError, match="q16, which has no blocks; use fill_rows"):
        packed(random(2, 4)).fill_blocks(0, torch.zeros(2, 8, dtype=torch.uint8))
    assert takes(FIXED_POINT, 7)
    assert not takes(FIXED_POINT, 0)
    assert (float_format(torch.bfloat16), float_format(torch.bfloat16, is_exact=True)) == ("q16", "bf16")
    assert float_format(F32) == "f32"
    monkeypatch.setattr("kvik.kernels.linear.formats.native", None)
    assert not takes(FIXED_POINT, 7)
    assert float_format(torch.bfloat16) == "bf16"
    with pytest.raises(ValueError, match="q16 is a format of the native kernels, which are not built here; take bf16"):
        PackedWeight.allocate(16, 16, FIXED_POINT)
