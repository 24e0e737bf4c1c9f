from __future__ import annotations

import pytest
import torch
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from kvik.kernels.rms_norm import add_rms_norm, reference, rms_norm

DTYPES = [torch.float32, torch.bfloat16]
EPS = 1e-5


def inputs(rows: int, size: int, dtype: torch.dtype, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, size, generator=generator) * 3
    weight = torch.randn(size, generator=generator)
    return x.to(dtype), weight.to(dtype)


def assert_nearly_equal(actual: torch.Tensor, expected: torch.Tensor) -> None:
    """One rounding step apart at most, and that rarely: the sum of squares runs in another order."""
    assert actual.dtype == expected.dtype
    if actual.dtype is torch.bfloat16:
        assert (actual != expected).float().mean() < 0.01
        torch.testing.assert_close(actual, expected, rtol=2**-6, atol=0)
    else:
        torch.testing.assert_close(actual, expected, rtol=2e-6, atol=1e-7)


def transformers_norm(x: torch.Tensor, weight: torch.Tensor, unit_offset: bool) -> torch.Tensor:
    module = (Gemma3RMSNorm if unit_offset else LlamaRMSNorm)(x.shape[1], eps=EPS).to(x.dtype)
    module.weight.data.copy_(weight)
    with torch.no_grad():
        return module(x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("unit_offset", [False, True])
@pytest.mark.parametrize("size", [1, 15, 16, 17, 64, 576])
def test_as_transformers(backend: str, size: int, unit_offset: bool, dtype: torch.dtype) -> None:
    x, weight = inputs(5, size, dtype)
    expected = transformers_norm(x, weight, unit_offset)
    assert_nearly_equal(reference.rms_norm(x, weight, EPS, unit_offset=unit_offset), expected)
    assert_nearly_equal(rms_norm(x, weight, EPS, unit_offset=unit_offset), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("unit_offset", [False, True])
@pytest.mark.parametrize("size", [7, 576])
def test_add_changes_the_residual_in_place(backend: str, size: int, unit_offset: bool, dtype: torch.dtype) -> None:
    x, weight = inputs(65, size, dtype)
    residual, _ = inputs(65, size, dtype, seed=1)
    total = residual + x
    normed = add_rms_norm(x, residual, weight, EPS, unit_offset=unit_offset)
    assert torch.equal(residual, total)
    assert_nearly_equal(normed, transformers_norm(total, weight, unit_offset))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_does_not_depend_on_its_neighbours(backend: str, dtype: torch.dtype) -> None:
    x, weight = inputs(200, 100, dtype)
    alone = torch.cat([rms_norm(row[None], weight, EPS) for row in x])
    assert torch.equal(rms_norm(x, weight, EPS), alone)
    x[7, 3] = float("nan")
    poisoned = rms_norm(x, weight, EPS)
    assert poisoned[7].isnan().all()
    assert torch.equal(poisoned[:7], alone[:7])
    assert torch.equal(poisoned[8:], alone[8:])


@pytest.mark.parametrize("dtype", DTYPES)
def test_writes_only_its_rows(backend: str, dtype: torch.dtype) -> None:
    x, weight = inputs(3, 13, dtype)
    guarded = torch.full((5, 13), 42.0, dtype=dtype)
    add_rms_norm(x, guarded[1:4], weight, EPS)
    assert (guarded[[0, 4]] == 42).all()


def test_takes_rows_that_are_not_contiguous(backend: str) -> None:
    x, weight = inputs(4, 32, torch.float32)
    assert torch.equal(rms_norm(x[:, :16], weight[:16], EPS), rms_norm(x[:, :16].clone(), weight[:16], EPS))
    with pytest.raises(ValueError, match=r"residual has strides \(32, 1\).*contiguous"):
        add_rms_norm(x[:, :16], x[:, 16:], weight[:16], EPS)


def test_no_rows() -> None:
    x, weight = inputs(0, 16, torch.float32)
    assert rms_norm(x, weight, EPS).shape == (0, 16)


def test_errors_name_what_came() -> None:
    x, weight = inputs(2, 16, torch.float32)
    with pytest.raises(ValueError, match=r"x is \[2, 16\] torch.float32 on cpu and weight \[15\]"):
        rms_norm(x, weight[:15], EPS)
    with pytest.raises(ValueError, match=r"x lies on meta and weight on cpu"):
        rms_norm(x.to("meta"), weight, EPS)
    with pytest.raises(ValueError, match=r"one dtype"):
        rms_norm(x, weight.bfloat16(), EPS)
    with pytest.raises(ValueError, match=r"residual is \[1, 16\]"):
        add_rms_norm(x, x[:1], weight, EPS)
