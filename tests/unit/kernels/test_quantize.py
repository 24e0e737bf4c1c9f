from __future__ import annotations

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, quants
from hypothesis import given, settings
from hypothesis import strategies as st

from kvik.kernels.dequantize import dequantize
from kvik.kernels.quantize import FORMATS, quantize, reference


def random(rows: int, k: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, k, generator=torch.Generator().manual_seed(seed))


def restored(values: torch.Tensor, fmt: str) -> torch.Tensor:
    return dequantize(quantize(values, fmt).flatten(), fmt, *values.shape, torch.float32)


def by_gguf(values: torch.Tensor, fmt: str) -> torch.Tensor:
    kind = GGMLQuantizationType[fmt.upper()]
    return torch.from_numpy(quants.dequantize(quants.quantize(values.numpy(), kind), kind))


def test_q8_0_is_off_by_half_a_step_at_most(isa: str) -> None:
    values = random(50, 320) * torch.logspace(-1, 4, 50)[:, None]
    step = values.view(50, 10, 32).abs().amax(dim=2, keepdim=True) / 127
    off = (restored(values, "q8_0") - values).view(50, 10, 32).abs()
    assert (off <= step * 0.57).all()  # beside rounding, the scale is an fp16 number: 2^-11 of 127 steps


@pytest.mark.parametrize("fmt", ["q4_0", "q4_1"])
def test_four_bits_have_less_error_than_without_a_search(isa: str, fmt: str) -> None:
    values = random(64, 512)
    error, without = ((other - values).square().mean() for other in (restored(values, fmt), by_gguf(values, fmt)))
    assert error < {"q4_0": 0.9, "q4_1": 0.82}[fmt] * without


@pytest.mark.parametrize("fmt", FORMATS)
def test_what_a_format_can_hold_comes_back(isa: str, fmt: str) -> None:
    exact = by_gguf(random(16, 64), fmt)
    worst = (restored(exact, fmt) - exact).abs().max()
    assert worst < 2e-3 * exact.abs().max()


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_none_spoils_its_block_only(isa: str, fmt: str, bad: float) -> None:
    values = random(3, 96)
    expected = restored(values, fmt)
    values[1, 40] = bad
    result = restored(values, fmt)
    assert result[1, 32:64].isnan().all()
    expected[1, 32:64] = result[1, 32:64] = 0
    assert torch.equal(result, expected)


@pytest.mark.parametrize("fmt", FORMATS)
def test_constant_and_tiny_blocks(isa: str, fmt: str) -> None:
    for value in (0.0, 1.0, -3.0, 1e-9, 1e-38, 1e-45):
        result = restored(torch.full((1, 32), value), fmt)
        assert (result - value).abs().max() <= max(1e-3 * abs(value), 6e-8 * 8)


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_are_widened_first(isa: str, fmt: str, dtype: torch.dtype) -> None:
    values = random(5, 64).to(dtype)
    assert torch.equal(quantize(values, fmt), quantize(values.float(), fmt))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=32, max_size=32), st.sampled_from(FORMATS))
def test_any_block_is_within_its_largest_step(numbers: list[float], fmt: str) -> None:
    values = torch.tensor([numbers])
    spread = np.ptp(numbers) / 15 if fmt == "q4_1" else values.abs().max() / {"q4_0": 7, "q8_0": 127}[fmt]
    error = (restored(values, fmt) - values).square().mean().sqrt()
    assert error <= 0.7 * spread + 1e-3 * values.abs().max() + 1e-6


@pytest.mark.parametrize("fmt", FORMATS)
def test_as_the_reference(isa: str, fmt: str) -> None:
    values = random(33, 128)
    expected = dequantize(reference.quantize(values, fmt).flatten(), fmt, 33, 128, torch.float32)
    wrong, right = ((other - values).square().mean() for other in (restored(values, fmt), expected))
    assert abs(wrong - right) < 1e-3 * right


def test_no_rows_and_errors_name_what_came() -> None:
    assert quantize(torch.zeros(0, 64), "q8_0").shape == (0, 68)
    with pytest.raises(ValueError, match=r"the format is 'q4_k'; it must be one of q8_0, q4_0, q4_1"):
        quantize(torch.zeros(1, 256), "q4_k")
    with pytest.raises(
        ValueError, match=r"values are \[1, 33\] torch.float32; q4_0 takes \[rows, K\] of floats, K a mul"
    ):
        quantize(torch.zeros(1, 33), "q4_0")
