from __future__ import annotations

import math

import pytest
import torch

from kvik.kernels.gated_activation import KINDS, gated_activation, reference

DTYPES = [torch.float32, torch.bfloat16]


def random(rows: int, size: int, dtype: torch.dtype) -> torch.Tensor:
    return (torch.randn(rows, 2 * size, generator=torch.Generator().manual_seed(rows * size)) * 4).to(dtype)


def exact(x: torch.Tensor, kind: str) -> torch.Tensor:
    """In float64, the activation rounded to the dtype. 1 + tanh(y) would lose its digits where tanh(y) is near -1."""
    gate, up = x.double().chunk(2, dim=1)
    if kind == "silu":
        act = gate * gate.sigmoid()
    else:
        act = gate * (2 * math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3)).sigmoid()
    return act.to(x.dtype).double() * up


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("rows", "size"), [(1, 1), (2, 15), (3, 16), (1, 1536), (33, 513), (65, 100)])
def test_against_float64_and_the_reference(backend: str, rows: int, size: int, kind: str, dtype: torch.dtype) -> None:
    x = random(rows, size, dtype)
    result, expected = gated_activation(x, kind), exact(x, kind)
    assert result.dtype == dtype
    assert result.shape == (rows, size)
    if dtype is torch.bfloat16:
        assert (result != expected.bfloat16()).float().mean() <= 0.005
        torch.testing.assert_close(result, reference.gated_activation(x, kind), rtol=2**-6, atol=2**-12)
    else:
        torch.testing.assert_close(result.double(), expected, rtol=2e-5, atol=1e-30)


@pytest.mark.parametrize("kind", KINDS)
def test_the_ends_of_the_range(backend: str, kind: str) -> None:
    gate = torch.tensor([[0.0, -0.0, 1e-30, -1e-30, 88.0, -88.0, 1e20, -1e20, 3e38, float("inf")]])
    x = torch.cat([gate, torch.ones_like(gate)], dim=1)
    torch.testing.assert_close(gated_activation(x, kind), reference.gated_activation(x, kind), rtol=2e-6, atol=1e-35)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_value_does_not_depend_on_its_neighbours(backend: str, kind: str, dtype: torch.dtype) -> None:
    x = random(70, 601, dtype)
    whole = gated_activation(x, kind)
    assert torch.equal(torch.cat([gated_activation(row[None], kind) for row in x]), whole)
    x[9, 600] = float("nan")
    x[9, 601 + 3] = float("inf")
    poisoned = gated_activation(x, kind)
    assert poisoned[9, 600].isnan()
    assert poisoned[9, 3].isinf()
    same = torch.ones_like(whole, dtype=torch.bool)
    same[9, [3, 600]] = False
    assert torch.equal(poisoned[same], whole[same])


def test_takes_rows_that_are_not_contiguous(backend: str) -> None:
    x = random(4, 32, torch.float32)
    assert torch.equal(gated_activation(x[:, :32], "silu"), gated_activation(x[:, :32].clone(), "silu"))


def test_errors_name_what_came() -> None:
    with pytest.raises(ValueError, match="the kind is 'relu'; it must be one of silu, gelu_tanh"):
        gated_activation(torch.zeros(1, 4), "relu")
    with pytest.raises(ValueError, match=r"x is \[1, 5\]; it must be \[T, 2 \* I\]"):
        gated_activation(torch.zeros(1, 5), "silu")
