"""linear and its weights as on a GPU, with Triton in the interpreter, against dequantised weights in fp64."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kvik.kernels.dequantize import FORMATS
from kvik.kernels.dequantize import reference as dequantized
from kvik.kernels.linear import QUANTIZED, PackedWeight, linear
from kvik.kernels.linear.gpu_layout import blocks_of, layout_of, rows_of
from kvik.kernels.quantize import FORMATS as FROM_FLOATS
from support.triton_interpreter import standing_in_for_gpu

BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32
HALVES = {"q4_0": [0], "q4_1": [0, 2], "q8_0": [0], "q4_k": [0, 2], "q6_k": [208]}
# Of the sum of magnitudes: an element of a weight is rounded to the inputs' dtype, the sum in it once more.
TOLERANCE = {F32: 1e-6, F16: 2.0**-11 * 1.5, BF16: 2.0**-8 * 1.5}
SIZES = [(fmt, k) for fmt, block in QUANTIZED.items() for k in ((32, 96, 320) if block == 32 else (256, 512))]


@pytest.fixture(autouse=True)
def gpu() -> Iterator[None]:
    with standing_in_for_gpu():
        yield


def split_into(num: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import kvik.kernels.linear.triton as kernels

    monkeypatch.setattr(kernels, "num_splits", lambda tiles, steps, wanted: min(num, steps))


def random_blocks(fmt: str, n: int, k: int) -> torch.Tensor:
    """Rows of blocks with every pattern of codes and scales, and sensible fp16 numbers."""
    rng = np.random.default_rng(k)
    block = FORMATS[fmt]
    blocks = rng.integers(0, 256, (n * k // block.block_size, block.block_bytes), dtype=np.uint8)
    for at in HALVES[fmt]:
        blocks[:, at : at + 2] = rng.normal(0, 0.1, (len(blocks), 1)).astype(np.float16).view(np.uint8)
    return torch.from_numpy(blocks).view(n, -1)


def filled(fmt: str, n: int, k: int) -> tuple[PackedWeight, torch.Tensor]:
    """A weight of random blocks, and the same dequantised."""
    blocks = random_blocks(fmt, n, k)
    weight = PackedWeight.allocate(n, k, fmt)
    weight.fill_blocks(0, blocks)
    plain = dequantized.dequantize(blocks.flatten(), fmt, n * k // FORMATS[fmt].block_size, F32)
    return weight, plain.view(n, k)


def random(*shape: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def assert_near(actual: torch.Tensor, x: torch.Tensor, plain: torch.Tensor, bias: torch.Tensor | None = None) -> None:
    exact, magnitude = x.double() @ plain.double().T, x.double().abs() @ plain.double().abs().T
    if bias is not None:
        exact, magnitude = exact + bias.double(), magnitude + bias.double().abs()
    assert ((actual.double() - exact).abs() <= TOLERANCE[x.dtype] * magnitude + 1e-6).all()


@pytest.mark.parametrize(("fmt", "k"), SIZES)
def test_quantised_weights_against_float64(fmt: str, k: int) -> None:
    weight, plain = filled(fmt, 70, k)
    for rows, dtype in ((1, BF16), (17, F32), (5, F16)):
        x, bias = random(rows, k, dtype=dtype), random(70, dtype=dtype, seed=1)
        result = linear(x, weight)
        assert result.dtype is dtype
        assert_near(result, x, plain)
        assert_near(linear(x, weight, bias), x, plain, bias)


@pytest.mark.parametrize("fmt", QUANTIZED)
@pytest.mark.parametrize("rows", [40, 65])
def test_many_rows(fmt: str, rows: int) -> None:
    """Wider tiles, each with rows and outputs left over."""
    weight, plain = filled(fmt, 33, 256)
    x = random(rows, 256, dtype=BF16)
    assert_near(linear(x, weight), x, plain)


@pytest.mark.parametrize("fmt", QUANTIZED)
@pytest.mark.parametrize("num", [1, 2, 3])
def test_splits_of_k_give_one_sum(fmt: str, num: int, monkeypatch: pytest.MonkeyPatch) -> None:
    split_into(num, monkeypatch)
    weight, plain = filled(fmt, 20, 768)
    x, bias = random(3, 768, dtype=F32), random(20, dtype=F32, seed=1)
    result = linear(x, weight, bias)
    assert_near(result, x, plain, bias)
    assert torch.equal(linear(x, weight, bias), result)


def test_few_tiles_split_k_and_many_do_not() -> None:
    import kvik.kernels.linear.triton as kernels

    assert kernels.num_splits(4, 32, 432) == 32
    assert kernels.num_splits(64, 32, 432) == 6
    assert kernels.num_splits(1000, 32, 432) == 1


@pytest.mark.parametrize("fmt", QUANTIZED)
def test_result_in_fp32_is_rounded_once(fmt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    split_into(1, monkeypatch)
    weight, plain = filled(fmt, 16, 256)
    x = random(2, 256, dtype=BF16)
    wide = linear(x, weight, dtype=F32)
    assert wide.dtype is F32
    assert torch.equal(wide.to(BF16), linear(x, weight))
    torch.testing.assert_close(wide, x.float() @ plain.to(BF16).float().T, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("splits", [1, 2])
def test_columns_of_a_wider_output(splits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of three formats side by side, as V beside Q and K in a Q4_K_M file, the last of floats."""
    split_into(splits, monkeypatch)
    first, second = filled("q4_k", 20, 256), filled("q6_k", 8, 256)
    third = PackedWeight.allocate(5, 256, BF16)
    third.fill_rows(0, random(5, 256, dtype=F32, seed=5))
    x, bias = random(3, 256, dtype=BF16), random(33, dtype=BF16, seed=1)
    out = torch.full((3, 40), 42.0, dtype=BF16)
    plains = [first[1], second[1], third.plain()]
    for weight, plain, at in zip((first[0], second[0], third), plains, (0, 20, 28), strict=True):
        view = linear(x, weight, bias[at : at + weight.n], out, at)
        assert view.data_ptr() == out[:, at:].data_ptr()
        assert_near(view, x, plain, bias[at : at + weight.n])
    assert (out[:, 33:] == 42).all()
    linear(x, third, None, out, 33)
    assert_near(out[:, 33:38], x, plains[2])


@pytest.mark.parametrize("fmt", QUANTIZED)
def test_nan_stays_in_its_row_and_column(fmt: str) -> None:
    k = 96 if QUANTIZED[fmt] == 32 else 256
    blocks = random_blocks(fmt, 20, k)
    weight = PackedWeight.allocate(20, k, fmt)
    weight.fill_blocks(0, blocks)
    x = random(4, k, dtype=F32)
    expected = linear(x, weight)
    x[2, k - 1] = torch.nan
    at = HALVES[fmt][0]
    blocks[7, at : at + 2] = torch.tensor([torch.nan]).half().view(torch.uint8)
    weight.fill_blocks(0, blocks)
    result = linear(x, weight)
    assert result[2].isnan().all()
    assert result[:, 7].isnan().all()
    others = torch.ones(4, 20, dtype=torch.bool)
    others[2], others[:, 7] = False, False
    assert torch.equal(result[others], expected[others])


def test_inputs_may_be_columns_of_wider_rows() -> None:
    weight, plain = filled("q8_0", 16, 64)
    wide = random(3, 200, dtype=BF16)
    assert_near(linear(wide[:, 10:74], weight), wide[:, 10:74], plain)
    assert_near(linear(wide[:, ::2][:, :64], weight), wide[:, ::2][:, :64], plain)
    assert linear(wide[:0, :64], weight).shape == (0, 16)


@pytest.mark.parametrize("dtype", [F32, BF16, F16])
def test_weights_of_floats(dtype: torch.dtype) -> None:
    plain, bias = random(20, 33, dtype=dtype), random(20, dtype=dtype, seed=1)
    weight = PackedWeight.allocate(20, 33, dtype)
    weight.fill_rows(0, plain)
    assert not weight.is_packed
    x = random(4, 33, dtype=dtype, seed=2)
    assert torch.equal(linear(x, weight, bias), torch.nn.functional.linear(x, plain, bias))
    wide = linear(x, weight, bias, dtype=F32)
    assert wide.dtype is F32
    torch.testing.assert_close(wide, x.float() @ plain.float().T + bias.float())
    with pytest.raises(ValueError, match=r"result cannot be torch.float64; it must be .* torch.float32"):
        linear(x, weight, dtype=torch.float64)


@pytest.mark.parametrize("fmt", FROM_FLOATS)
def test_made_from_floats_at_load(fmt: str) -> None:
    floats = random(9, 96, dtype=BF16)
    weight = PackedWeight.allocate(9, 96, fmt)
    weight.fill_rows(0, floats[:4])
    weight.fill_rows(4, floats[4:])
    plain = weight.plain()
    assert (plain - floats.float()).abs().max() < (0.05 if fmt == "q8_0" else 0.5)
    x = random(2, 96, dtype=BF16, seed=1)
    assert_near(linear(x, weight), x, plain)


@pytest.mark.parametrize(("fmt", "k"), SIZES)
def test_memory_of_the_format_and_rows_by_id(fmt: str, k: int) -> None:
    weight, plain = filled(fmt, 9, k)
    assert weight.is_for_gpu
    assert weight.nbytes == 9 * layout_of(fmt, k).row_bytes
    assert torch.equal(weight.plain(), plain)
    assert torch.equal(weight.rows(torch.tensor([8, 0, 8])), plain[[8, 0, 8]])
    with pytest.raises(ValueError, match=r"blocks are \[2, 3\]"):
        weight.fill_blocks(0, torch.zeros(2, 3, dtype=torch.uint8))
    with pytest.raises(ValueError, match=rf"x is \[1, {k}\] torch.float64; .* torch.float32 or torch.bfloat16"):
        linear(torch.zeros(1, k, dtype=torch.float64), weight)


@pytest.mark.parametrize("fmt", QUANTIZED)
@pytest.mark.parametrize("k", [4096, 14336])
def test_rows_are_aligned_and_hardly_larger_than_the_files(fmt: str, k: int) -> None:
    block = FORMATS[fmt]
    layout = layout_of(fmt, k)
    assert layout.row_bytes % 16 == 0
    assert layout.row_bytes <= k // block.block_size * block.block_bytes * 1.03


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(QUANTIZED)), st.integers(0, 4), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_blocks_come_back_as_they_were(fmt: str, rows: int, num_blocks: int, seed: int) -> None:
    k = QUANTIZED[fmt] * num_blocks
    shape = (rows, num_blocks * FORMATS[fmt].block_bytes)
    blocks = torch.randint(256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    there = rows_of(blocks, fmt, k)
    assert there.shape == (rows, layout_of(fmt, k).row_bytes)
    assert torch.equal(blocks_of(there, fmt, k), blocks)
