"""linear of weights in 8-bit floats: the reference and Triton in the interpreter, against arithmetic in float64."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from kvik.kernels import launch
from kvik.kernels.linear import FP8_FORMATS, PackedWeight, linear, takes
from kvik.kernels.linear.fp8_layout import join, num_scales, to_fp8
from support.triton_interpreter import standing_in_for_gpu

BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32
ROUNDING = {F32: 1e-6, F16: 2.0**-11, BF16: 2.0**-8}
"""Of the sum of magnitudes: of the result, and of what fp32 sums lose."""


@pytest.fixture(params=["reference", "triton"])
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "reference":
        yield request.param
        return
    with standing_in_for_gpu():
        yield request.param


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def stored(format: str, n: int, k: int) -> tuple[PackedWeight, torch.Tensor, torch.Tensor]:
    """A weight of every code, its codes and its scales [N, K] in float64. Fixed scales of inputs differ by row."""
    codes = torch.randint(0, 256, (n, k), generator=torch.Generator().manual_seed(k), dtype=torch.uint8)
    codes[codes & 0x7F == 0x7F] = 0
    scales = random(n, num_scales(format, k), seed=1).abs() * 0.01 + 0.001
    weight = PackedWeight.allocate(n, k, format)
    half = n // 2
    weight.fill_blocks(0, join(codes[:half], scales[:half]))
    weight.fill_blocks(half, join(codes[half:], scales[half:]))
    if FP8_FORMATS[format].inputs == "tensor":
        assert weight.input_scale is not None
        assert weight.input_scale == scales[:, 1].max()
    group = FP8_FORMATS[format].group or k
    spread = scales[:, : num_scales(format, k)].double().repeat_interleave(group, 1)[:, :k]
    return weight, codes.view(torch.float8_e4m3fn).double(), spread


def rounded(x: torch.Tensor, weight: PackedWeight) -> torch.Tensor:
    """Inputs after their journey through e4m3, float64, group by group by the definition."""
    rule = FP8_FORMATS[weight.format]
    if rule.inputs == "exact":
        return x.double()
    size = rule.group or weight.k
    parts = []
    for part in x.float().split(size, dim=1):
        scale = weight.input_scale
        if scale is None:
            scale = part.abs().amax(1, keepdim=True).clamp(min=1e-30) * (1 / 448)
        parts.append((part * (1 / scale)).clamp(-448, 448).to(torch.float8_e4m3fn).double() * scale.double())
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize("k", [16, 208, 384])
@pytest.mark.parametrize("format", FP8_FORMATS)
def test_the_product_of_rounded_inputs(way: str, format: str, k: int) -> None:
    weight, codes, scales = stored(format, 70, k)
    for rows, dtype in ((1, BF16), (17, F32), (5, F16)):
        x, bias = random(rows, k).to(dtype), random(70, seed=2).to(dtype)
        exact = rounded(x, weight) @ (codes * scales).T
        magnitude = rounded(x, weight).abs() @ (codes * scales).abs().T
        for added, result in ((torch.zeros(70), linear(x, weight)), (bias.double(), linear(x, weight, bias))):
            assert result.dtype is dtype
            error = (result.double() - exact - added).abs()
            assert (error <= ROUNDING[dtype] * (magnitude + added.abs())).all()


@pytest.mark.parametrize("format", FP8_FORMATS)
def test_before_sm_89_inputs_stay_as_they_are(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with standing_in_for_gpu():
        monkeypatch.setattr(launch, "capability", lambda: (8, 0))
        weight, codes, scales = stored(format, 40, 208)
        x = random(3, 208)
        exact = x.double() @ (codes * scales).T
        torch.testing.assert_close(linear(x, weight).double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("format", FP8_FORMATS)
def test_splits_of_k_wide_tiles_and_columns_of_a_wider_output(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with standing_in_for_gpu():
        import kvik.kernels.linear.fp8 as kernels

        weight, codes, scales = stored(format, 20, 384)
        x, bias = random(40, 384).to(BF16), random(20, seed=2).to(BF16)
        exact = rounded(x, weight) @ (codes * scales).T + bias.double()
        for num in (1, 3):
            monkeypatch.setattr(kernels, "num_splits", lambda tiles, steps, wanted, num=num: num)
            out = torch.full((40, 30), 42.0, dtype=BF16)
            view = linear(x, weight, bias, out, 4)
            torch.testing.assert_close(view.double(), exact, rtol=2**-8, atol=2e-2)
            assert (out[:, :4] == 42).all()
            assert (out[:, 24:] == 42).all()
            wide = linear(x, weight, bias, dtype=F32)
            torch.testing.assert_close(wide.double(), exact, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_and_infinity_stay_in_their_row(way: str, bad: float) -> None:
    for format in ("fp8", "fp8_block", "fp8_weight_only"):
        weight, _, _ = stored(format, 8, 256)
        x = random(3, 256)
        expected = linear(x, weight)
        x[1, 200] = bad
        result = linear(x, weight)
        assert not result[1].isfinite().any()
        assert torch.equal(result[[0, 2]], expected[[0, 2]])


def test_zeros_and_a_code_that_is_nan(way: str) -> None:
    weight, codes, scales = stored("fp8", 8, 32)
    assert not linear(torch.zeros(2, 32), weight).any()
    assert linear(torch.zeros(0, 32), weight).shape == (0, 8)
    bits = codes.float().to(torch.float8_e4m3fn).view(torch.uint8)
    bits[3, 5] = 0x7F
    weight.fill_blocks(0, join(bits, scales[:, :1].float()))
    result = linear(random(2, 32), weight)
    assert result[:, 3].isnan().all()
    assert result[:, [0, 1, 2, 4, 5, 6, 7]].isfinite().all()


def test_made_from_floats(way: str) -> None:
    """A scale for each row; each code the nearest e4m3."""
    floats = random(9, 96) * torch.logspace(-4, 2, 9)[:, None]
    weight = PackedWeight.allocate(9, 96, "fp8")
    weight.fill_rows(0, floats[:4])
    weight.fill_rows(4, floats[4:].to(F32))
    largest = floats.abs().amax(1, keepdim=True)
    expected = (floats * (448 / largest)).to(torch.float8_e4m3fn).float() * largest / 448
    torch.testing.assert_close(weight.plain(), expected, rtol=1e-6, atol=0)
    assert torch.equal(weight.rows(torch.tensor([8, 0])), weight.plain()[[8, 0]])
    assert weight.nbytes == 9 * (96 + 16)
    for format in ("fp8_block", "fp8_static"):
        with pytest.raises(ValueError, match=f"{format} is not made from floats; take one of .*fp8, fp8_weight_only"):
            PackedWeight.allocate(9, 96, format).fill_rows(0, floats)


def test_what_does_not_fit() -> None:
    assert takes("fp8", 48)
    assert not takes("fp8", 24)
    with pytest.raises(ValueError, match="24 inputs cannot be stored as fp8_block, which takes multiples of 16"):
        PackedWeight.allocate(8, 24, "fp8_block")
    weight = PackedWeight.allocate(8, 256, "fp8_block")
    with pytest.raises(ValueError, match=r"rows of 256 elements of fp8_block are \[rows, 264\]"):
        weight.fill_blocks(0, torch.zeros(8, 260, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"x is \[1, 256\] torch.float64; .* torch.float32 or torch.bfloat16"):
        linear(torch.zeros(1, 256, dtype=torch.float64), weight)


def test_what_is_beyond_a_fixed_scale_becomes_the_largest() -> None:
    codes, scale = to_fp8(torch.tensor([[1000.0, -1000.0, 3.0]]), torch.tensor([2.0]))
    assert codes.float().tolist() == [[448, -448, 1.5]]
    assert scale == 2
