"""linear, rows and embedding of weights in a quantised format, against the reference and against the gguf package."""

from __future__ import annotations

import mmap

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, quants

from kvik.kernels import runtime
from kvik.kernels.dequantize import FORMATS, dequantize
from kvik.kernels.embedding import embedding
from kvik.kernels.linear import QUANTIZED, PackedWeight, linear, reference, takes
from kvik.kernels.quantize import FORMATS as FROM_FLOATS

ROW_COUNTS = [*range(1, 18), 31, 32, 33, 63, 64, 65]
HALVES = {"q4_0": [0], "q4_1": [0, 2], "q8_0": [0], "q4_k": [0, 2], "q6_k": [208]}
SMALL = {32: 96, 256: 512}  # block size -> a K of an odd number of groups, or of two blocks


def random_blocks(fmt: str, n: int, k: int, seed: int = 0) -> torch.Tensor:
    """Rows of blocks [n, bytes of a row] with every pattern of codes and scales, and sensible fp16 numbers."""
    rng = np.random.default_rng(seed)
    block = FORMATS[fmt]
    blocks = rng.integers(0, 256, (n * k // block.block_size, block.block_bytes), dtype=np.uint8)
    for at in HALVES[fmt]:
        blocks[:, at : at + 2] = rng.normal(0, 0.1, (len(blocks), 1)).astype(np.float16).view(np.uint8)
    return torch.from_numpy(blocks).view(n, -1)


def by_gguf(blocks: torch.Tensor, fmt: str) -> torch.Tensor:
    return torch.from_numpy(quants.dequantize(blocks.numpy(), GGMLQuantizationType[fmt.upper()]))


def filled(fmt: str, n: int, k: int, seed: int = 0) -> tuple[PackedWeight, torch.Tensor]:
    """A weight of random blocks, and the same dequantised."""
    blocks = random_blocks(fmt, n, k, seed)
    weight = PackedWeight.allocate(n, k, fmt)
    weight.fill_blocks(0, blocks)
    return weight, by_gguf(blocks, fmt)


def inputs(rows: int, k: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(rows, k, generator=torch.Generator().manual_seed(seed))


def assert_near(actual: torch.Tensor, x: torch.Tensor, plain: torch.Tensor) -> None:
    """Within the error of an fp32 sum over rounded inputs, and near the product with the inputs as they were."""
    rounded = reference.round_inputs(x)
    exact, magnitude = rounded.double() @ plain.double().T, rounded.abs().double() @ plain.abs().double().T
    assert ((actual - exact).abs() <= 2e-6 * magnitude).all()
    unrounded = x.double() @ plain.double().T
    assert ((actual - unrounded).abs() <= 0.01 * magnitude).all()


@pytest.mark.parametrize("fmt", QUANTIZED)
@pytest.mark.parametrize("n", [1, 16, 33, 100])
def test_against_float64(isa: str, fmt: str, n: int) -> None:
    k = SMALL[QUANTIZED[fmt]]
    weight, plain = filled(fmt, n, k)
    wide, bias = inputs(65, k), inputs(1, n)[0]
    for rows in ROW_COUNTS:
        result = linear(wide[:rows], weight)
        assert result.shape == (rows, n)
        assert_near(result, wide[:rows], plain)
        assert torch.equal(linear(wide[:rows], weight, bias), result + bias)


@pytest.mark.parametrize("fmt", QUANTIZED)
def test_a_row_has_the_same_bits_in_any_company(isa: str, fmt: str) -> None:
    k = 2560  # several blocks of K where there are many rows
    weight, _ = filled(fmt, 70, k)
    x = inputs(400, k)
    alone = torch.cat([linear(row[None], weight) for row in x])
    for rows in [*ROW_COUNTS, 192, 193, 400]:
        assert torch.equal(linear(x[:rows], weight), alone[:rows]), rows
        assert torch.equal(linear(x[400 - rows :], weight), alone[400 - rows :]), rows


@pytest.mark.parametrize("fmt", QUANTIZED)
def test_any_number_of_threads_gives_the_same_bits(isa: str, fmt: str) -> None:
    weight, _ = filled(fmt, 500, 256)
    x = inputs(200, 256)
    runtime.set_num_threads(1)
    expected = linear(x, weight)
    for num_threads in (2, 3, 7):
        runtime.set_num_threads(num_threads)
        assert torch.equal(linear(x, weight), expected)
        assert torch.equal(linear(x[:1], weight), expected[:1])


@pytest.mark.parametrize("fmt", QUANTIZED)
def test_sums_are_exact_where_all_codes_are_at_their_ends(isa: str, fmt: str) -> None:
    """Inputs of +-127 times the extreme codes: where a product of bytes saturates, it would here."""
    k = 256
    for byte in (0x00, 0xFF, 0x80, 0x7F):
        blocks = torch.full((16, k // QUANTIZED[fmt] * FORMATS[fmt].block_bytes), byte, dtype=torch.uint8)
        each = blocks.view(-1, FORMATS[fmt].block_bytes)
        for at in HALVES[fmt]:
            each[:, at : at + 2] = torch.tensor([1.0]).half().view(torch.uint8)
        weight = PackedWeight.allocate(16, k, fmt)
        weight.fill_blocks(0, blocks)
        for signs in (torch.ones(1, k), -torch.ones(1, k), torch.ones(1, k).cumsum(1) % 2 * 2 - 1):
            x = 127 * signs
            assert torch.equal(linear(x, weight), (x.double() @ by_gguf(blocks, fmt).double().T).float())


@pytest.mark.parametrize("fmt", QUANTIZED)
def test_every_instruction_set_agrees_to_the_rounding_of_its_floats(isa: str, fmt: str) -> None:
    weight, plain = filled(fmt, 40, 512)
    x = inputs(20, 512)
    result = linear(x, weight)
    runtime.native.select_isa("generic")
    difference = (linear(x, weight) - result).abs()
    assert (difference <= 1e-6 * (x.abs() @ plain.abs().T)).all()


@pytest.mark.parametrize("fmt", QUANTIZED)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("rows", [3, 20])
def test_nan_and_infinity_stay_in_their_row(isa: str, fmt: str, bad: float, rows: int) -> None:
    weight, _ = filled(fmt, 40, 256)
    x = inputs(rows, 256)
    expected = linear(x, weight)
    for column in (0, 31, 255):
        poisoned = x.clone()
        poisoned[2, column] = bad
        result = linear(poisoned, weight)
        assert result[2].isnan().all()
        assert torch.equal(result[:2], expected[:2])
        assert torch.equal(result[3:], expected[3:])


@pytest.mark.parametrize("fmt", QUANTIZED)
def test_a_nan_in_the_weight_stays_in_its_column(isa: str, fmt: str) -> None:
    blocks, x = random_blocks(fmt, 40, 256), inputs(5, 256)
    weight = PackedWeight.allocate(40, 256, fmt)
    weight.fill_blocks(0, blocks)
    expected = linear(x, weight)
    blocks[17, HALVES[fmt][0] : HALVES[fmt][0] + 2] = 255
    weight.fill_blocks(17, blocks[17:18])
    result = linear(x, weight)
    assert result[:, 17].isnan().all()
    result[:, 17] = expected[:, 17]
    assert torch.equal(result, expected)


@pytest.mark.parametrize("fmt", QUANTIZED)
def test_zeros_tiny_and_huge_inputs(isa: str, fmt: str) -> None:
    weight, plain = filled(fmt, 20, 256)
    assert not linear(torch.zeros(3, 256), weight).any()
    assert not linear(torch.full((1, 256), 1e-31), weight).any()
    for scale in (1e-25, 1e25):
        x = inputs(2, 256) * scale
        assert_near(linear(x, weight), x, plain)


def exactly(x: torch.Tensor, plain: torch.Tensor) -> torch.Tensor:
    """The product with the inputs in whole steps, by float64; and how far an fp32 sum of it may be off."""
    rounded = reference.round_inputs(x).double()
    return torch.stack([rounded @ plain.double().T, 2e-6 * (rounded.abs() @ plain.double().abs().T)])


@pytest.mark.parametrize("fmt", QUANTIZED)
@pytest.mark.parametrize("rows", [1, 32])
def test_an_outlier_may_lie_anywhere(isa: str, fmt: str, rows: int) -> None:
    """Each element of a group is once the largest, far beyond the others, in every group and with each sign."""
    weight, plain = filled(fmt, 40, 256)
    for sign in (1, -1):
        x = inputs(32, 256)
        places = torch.arange(32)
        x.view(32, 8, 32)[places, :, places] = sign * 80.0
        for first in range(0, 32, rows):
            some = x[first : first + rows]
            expected, error = exactly(some, plain)
            assert ((linear(some, weight) - expected).abs() <= error).all()


@pytest.mark.parametrize("fmt", QUANTIZED)
def test_others_keep_their_precision_beside_an_outlier(isa: str, fmt: str) -> None:
    """The product with an outlier, less the outlier's own share, is near the product without it."""
    weight, plain = filled(fmt, 40, 256)
    x = inputs(6, 256)
    outliers = torch.zeros_like(x)
    outliers[:, 5::32] = 20 * x.abs().amax()
    share = reference.round_inputs(outliers + x * (outliers == 0))[:, 5::32].double() @ plain[:, 5::32].double().T
    others = x.double() * (outliers == 0)
    result = linear((others + outliers).float(), weight).double() - share
    magnitude = others.abs() @ plain.double().abs().T
    assert ((result - others @ plain.double().T).abs() <= 0.01 * magnitude).all()


@pytest.mark.parametrize("fmt", QUANTIZED)
def test_elements_of_one_size(isa: str, fmt: str) -> None:
    """Several are the largest: one of them is the outlier, and both are 127 steps."""
    weight, plain = filled(fmt, 40, 256)
    x = inputs(32, 256).clamp(-2, 2)
    for row in range(32):
        x[row].view(8, 32)[:, row] = 2.0
        x[row].view(8, 32)[:, (7 * row + 3) % 32] = -2.0
    expected, error = exactly(x, plain)
    assert ((linear(x, weight) - expected).abs() <= error).all()
    assert ((reference.round_inputs(x) - x).abs() <= 1.0001 / 127).all()


@pytest.mark.parametrize("fmt", QUANTIZED)
@pytest.mark.parametrize("ratio", [15_999.0 / 127, 16_001.0 / 127, 16_000.0, 1e6, 1e30])
def test_an_outlier_has_at_most_16000_steps(isa: str, fmt: str, ratio: float) -> None:
    """Beyond 126 times the next, steps become larger; at last they leave the outlier alone."""
    weight, plain = filled(fmt, 40, 256)
    x = inputs(4, 256).clamp(-1, 1)
    x[:, 20::32] = ratio
    rounded = reference.round_inputs(x)
    assert ((rounded - x).abs() <= max(1 / 127, ratio / 16_000) * 0.501).all()
    expected, error = exactly(x, plain)
    assert ((linear(x, weight) - expected).abs() <= error).all()


@pytest.mark.parametrize("fmt", QUANTIZED)
def test_sums_are_exact_beside_the_largest_outlier(isa: str, fmt: str) -> None:
    """31 inputs of 127 and one of 16,000, on codes at their ends: the integers that come nearest to 2^24."""
    for byte in (0x00, 0xFF, 0x80, 0x7F):
        blocks = torch.full((16, 256 // QUANTIZED[fmt] * FORMATS[fmt].block_bytes), byte, dtype=torch.uint8)
        each = blocks.view(-1, FORMATS[fmt].block_bytes)
        for at in HALVES[fmt]:
            each[:, at : at + 2] = torch.tensor([1.0]).half().view(torch.uint8)
        weight = PackedWeight.allocate(16, 256, fmt)
        weight.fill_blocks(0, blocks)
        for sign in (1.0, -1.0):
            x = torch.zeros(1, 256)
            x[0, :32] = 127.0 * sign
            x[0, 9] = 16_000.0 * sign
            expected = (x.double() @ by_gguf(blocks, fmt).double().T).float()
            assert torch.allclose(linear(x, weight), expected, rtol=5e-7, atol=0)


@pytest.mark.parametrize("fmt", QUANTIZED)
def test_blocks_at_any_row_come_back(isa: str, fmt: str) -> None:
    for n, k in [(1, 256), (17, 256), (50, SMALL[QUANTIZED[fmt]])]:
        blocks = random_blocks(fmt, n, k)
        weight = PackedWeight.allocate(n, k, fmt)
        for first in range(0, n, 7):
            weight.fill_blocks(first, blocks[first : first + 7])
        expected = by_gguf(blocks, fmt)
        assert torch.equal(weight.plain(), expected)
        ids = torch.randint(n, (50,), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
        assert torch.equal(weight.rows(ids.long()), expected[ids])
        assert torch.equal(embedding(ids, weight, torch.float32), expected[ids])
        assert torch.equal(embedding(ids, weight, torch.float32, 2.5), expected[ids] * 2.5)
        assert torch.equal(embedding(ids, weight, torch.bfloat16), expected[ids].bfloat16())
        for bad in (-1, n):
            with pytest.raises(IndexError, match=rf"ids\[1\] is {bad}; it must lie in \[0, {n}\)"):
                weight.rows(torch.tensor([0, bad]))


@pytest.mark.parametrize("fmt", FROM_FLOATS)
def test_rows_of_floats_are_quantized(isa: str, fmt: str) -> None:
    plain = inputs(50, 96)
    weight = PackedWeight.allocate(50, 96, fmt)
    weight.fill_rows(0, plain[:9])
    weight.fill_rows(9, plain[9:].double())
    error = (weight.plain() - plain).norm() / plain.norm()
    assert error < {"q8_0": 0.006, "q4_0": 0.09, "q4_1": 0.08}[fmt]


@pytest.mark.parametrize("fmt", QUANTIZED)
def test_takes_about_the_memory_of_the_file(isa: str, fmt: str) -> None:
    weight = PackedWeight.allocate(1024, 2048, fmt)
    of_the_file = 1024 * 2048 // FORMATS[fmt].block_size * FORMATS[fmt].block_bytes
    assert of_the_file <= weight.nbytes <= 1.05 * of_the_file
    assert weight.data.data_ptr() % 64 == 0
    assert weight.data.stride(0) % 64 == 0


def before_the_end_of_memory(values: torch.Tensor) -> tuple[mmap.mmap, torch.Tensor]:
    """A copy whose last byte is the last of a mapping. The file behind it ends there too: beyond lies what faults, or
    some other mapping; so this finds what a page's slack would hide, though not for certain."""
    pages = -(-values.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, pages)
    copy = torch.frombuffer(memory, dtype=torch.uint8)[pages - values.nbytes :].view(values.dtype).view(values.shape)
    copy.copy_(values)
    return memory, copy


@pytest.mark.parametrize("fmt", QUANTIZED)
@pytest.mark.parametrize("rows", [1, 5, 13, 40])
def test_touches_nothing_beyond_its_buffers(isa: str, fmt: str, rows: int) -> None:
    n, k = 21, 256
    weight, _ = filled(fmt, n, k)
    x = inputs(rows, k)
    memory, last = before_the_end_of_memory(x)
    out = torch.full((rows + 2, n + 5), 42.0)
    result = linear(last, weight, out=out[1:-1], out_column=3)
    assert torch.equal(result, linear(x, weight))
    out[1:-1, 3:-2] = 42
    assert (out == 42).all()
    del last
    memory.close()


@pytest.mark.parametrize("fmt", ["f32", "bf16", "f16", *QUANTIZED])
def test_parts_of_different_formats_make_one_output(isa: str, fmt: str) -> None:
    first, second = (PackedWeight.allocate(n, 256, name) for n, name in ((20, fmt), (7, "q8_0")))
    for weight in (first, second):
        if weight.format in ("q4_k", "q6_k"):
            weight.fill_blocks(0, random_blocks(weight.format, weight.n, 256))
        else:
            weight.fill_rows(0, inputs(weight.n, 256, seed=weight.n))
    x, bias = inputs(18, 256), inputs(1, 20)[0]
    out = torch.zeros(18, 27)
    linear(x, first, bias, out=out)
    linear(x, second, out=out, out_column=20)
    assert torch.equal(out, torch.cat([linear(x, first, bias), linear(x, second)], dim=1))


def test_what_a_format_takes() -> None:
    assert takes("q8_0", 96)
    assert takes("bf16", 33)
    assert not takes("q8_0", 33)
    assert not takes("q4_k", 96)
    assert not takes("q5_1", 32)
    with pytest.raises(ValueError, match=r"576 inputs cannot be stored as q4_k, .* 256; possible are .*q8_0"):
        PackedWeight.allocate(3, 576, "q4_k")
    with pytest.raises(ValueError, match=r"33 inputs cannot be stored as q8_0, .* 32; possible are f32, bf16"):
        PackedWeight.allocate(3, 33, "q8_0")
    with pytest.raises(ValueError, match=r"stored as 'q5_1'; choose one of f32, bf16, q8_0, q4_0, q4_1, q4_k, q6_k"):
        PackedWeight.allocate(3, 32, "q5_1")


@pytest.mark.parametrize("fmt", QUANTIZED)
def test_plain_blocks_elsewhere(fmt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What other devices and builds without the extension do: the blocks are kept and dequantised for each product."""
    monkeypatch.setattr("kvik.kernels.runtime.native", None)
    blocks = random_blocks(fmt, 20, 256)
    weight = PackedWeight.allocate(20, 256, fmt)
    weight.fill_blocks(4, blocks[4:])
    weight.fill_blocks(0, blocks[:4])
    assert not weight.is_packed
    assert torch.equal(weight.plain(), by_gguf(blocks, fmt))
    x = inputs(3, 256)
    assert_near(linear(x, weight), x, weight.plain())
    assert torch.equal(embedding(torch.tensor([3], dtype=torch.int32), weight, torch.float32), weight.plain()[3:4])


def test_errors_name_what_came() -> None:
    weight = PackedWeight.allocate(3, 256, "q4_k")
    with pytest.raises(ValueError, match=r"q4_k is not made from floats; take one of q8_0, q4_0, q4_1"):
        weight.fill_rows(0, torch.zeros(3, 256))
    with pytest.raises(ValueError, match=r"blocks are \[3, 18\] torch.uint8; rows of 256 .* \[rows, 144\] torch.uint8"):
        weight.fill_blocks(0, torch.zeros(3, 18, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"fill_blocks: rows \[2, 4\) do not lie in \[0, 3\)"):
        weight.fill_blocks(2, torch.zeros(2, 144, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"the weight is bf16, which has no blocks; use fill_rows"):
        PackedWeight.allocate(3, 256, "bf16").fill_blocks(0, torch.zeros(3, 512, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"for this weight it must be \[T, 256\] torch.float32$"):
        linear(torch.zeros(2, 256).bfloat16(), weight)
    with pytest.raises(ValueError, match=r"out is \[2, 4\] .* columns \[2, 5\) it must be \[2, 5 or more\]"):
        linear(torch.zeros(2, 256), weight, out=torch.zeros(2, 4), out_column=2)
    with pytest.raises(ValueError, match=r"columns \[-1, 2\)"):
        linear(torch.zeros(2, 256), weight, out=torch.zeros(2, 4), out_column=-1)


def test_dequantize_and_packed_rows_are_the_same_numbers(isa: str) -> None:
    for fmt in QUANTIZED:
        blocks = random_blocks(fmt, 9, 256)
        weight = PackedWeight.allocate(9, 256, fmt)
        weight.fill_blocks(0, blocks)
        assert torch.equal(weight.plain(), dequantize(blocks.flatten(), fmt, 9, 256, torch.float32))
