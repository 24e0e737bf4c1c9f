from __future__ import annotations

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, quants

from kvik.kernels.dequantize import FORMATS, dequantize, reference

DTYPES = [torch.float32, torch.bfloat16]
# Byte offsets of the fp16 numbers in a block; random bytes there would mostly be absurd.
HALVES = {"q4_0": [0], "q4_1": [0, 2], "q5_0": [0], "q5_1": [0, 2], "q8_0": [0], "q4_k": [0, 2], "q5_k": [0, 2]}
HALVES["q6_k"] = [208]


def random_blocks(fmt: str, num_blocks: int, seed: int = 0) -> np.ndarray:
    """Every bit pattern of codes and scales, with sensible fp16 scales."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (num_blocks, FORMATS[fmt].block_bytes), dtype=np.uint8)
    for at in HALVES[fmt]:
        halves = rng.normal(0, 0.1, (num_blocks, 1)).astype(np.float16)
        blocks[:, at : at + 2] = halves.view(np.uint8)
    return blocks


def by_gguf(blocks: np.ndarray, fmt: str) -> torch.Tensor:
    return torch.from_numpy(quants.dequantize(blocks, GGMLQuantizationType[fmt.upper()]))


@pytest.mark.parametrize("fmt", sorted(HALVES))
@pytest.mark.parametrize(("rows", "blocks_per_row"), [(1, 1), (3, 2), (17, 9)])
def test_same_bits_as_gguf(isa: str, fmt: str, rows: int, blocks_per_row: int) -> None:
    blocks = random_blocks(fmt, rows * blocks_per_row)
    data, cols = torch.from_numpy(blocks).flatten(), blocks_per_row * FORMATS[fmt].block_size
    expected = by_gguf(blocks, fmt).view(rows, cols)
    assert torch.equal(dequantize(data, fmt, rows, cols, torch.float32), expected)
    assert torch.equal(dequantize(data, fmt, rows, cols, torch.bfloat16), expected.bfloat16())
    assert torch.equal(reference.dequantize(data, fmt, len(blocks), torch.float32).view(rows, cols), expected)


@pytest.mark.parametrize("fmt", ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0"])
def test_returns_what_gguf_quantized(isa: str, fmt: str) -> None:
    values = np.random.default_rng(0).normal(size=(8, 64)).astype(np.float32)
    data = torch.from_numpy(quants.quantize(values, GGMLQuantizationType[fmt.upper()])).flatten()
    restored = dequantize(data, fmt, 8, 64, torch.float32)
    step = np.abs(values).max() / {"4": 7, "5": 15, "8": 127}[fmt[1]]
    assert (restored - torch.from_numpy(values)).abs().max() < 1.1 * step


def test_blocks_made_by_hand(isa: str) -> None:
    half = np.array([0.5], np.float16).tobytes()
    one = np.array([1.0], np.float16).tobytes()
    q8_0 = half + bytes(range(32))
    assert dequantize(as_bytes(q8_0), "q8_0", 1, 32, torch.float32)[0].tolist() == [i / 2 for i in range(32)]
    q4_0 = half + bytes([0xF0] * 16)  # low nibbles 0, high ones 15
    assert dequantize(as_bytes(q4_0), "q4_0", 1, 32, torch.float32)[0].tolist() == [-4.0] * 16 + [3.5] * 16
    q5_1 = half + one + bytes([0, 0, 0, 0x80]) + bytes(16)  # the fifth bit of the last code only
    assert dequantize(as_bytes(q5_1), "q5_1", 1, 32, torch.float32)[0].tolist() == [1.0] * 31 + [9.0]
    q6_k = bytes(192) + bytes([1] * 15 + [255]) + half  # codes 0 mean -32; the last scale is -1
    assert dequantize(as_bytes(q6_k), "q6_k", 1, 256, torch.float32)[0].tolist() == [-16.0] * 240 + [16.0] * 16


def as_bytes(data: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("source", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (3, 5), (7, 33), (100, 1000)])
def test_plain_elements(isa: str, rows: int, cols: int, source: torch.dtype, dtype: torch.dtype) -> None:
    values = torch.randn(rows, cols, generator=torch.Generator().manual_seed(0)).to(source)
    fmt = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}[source]
    data = values.view(torch.uint8).flatten()
    assert torch.equal(dequantize(data, fmt, rows, cols, dtype), values.to(dtype))
    assert torch.equal(reference.dequantize(data, fmt, rows * cols, dtype).view(rows, cols), values.to(dtype))


def test_every_half_is_widened_exactly(isa: str) -> None:
    bits = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16)
    expected = bits.view(torch.float16).float()
    plain = dequantize(bits.view(torch.uint8), "f16", 256, 256, torch.float32).flatten()
    torch.testing.assert_close(plain, expected, rtol=0, atol=0, equal_nan=True)
    blocks = torch.zeros(1 << 16, 34, dtype=torch.uint8)  # q8_0: the scale times 1
    blocks[:, :2] = bits.view(torch.uint8).view(-1, 2)
    blocks[:, 2:] = 1
    scales = dequantize(blocks.flatten(), "q8_0", 1 << 16, 32, torch.float32)[:, 0]
    torch.testing.assert_close(scales, expected, rtol=0, atol=0, equal_nan=True)


def test_a_nan_scale_stays_in_its_block(isa: str) -> None:
    blocks = random_blocks("q4_k", 3)
    blocks[1, 0:2] = np.array([np.nan], np.float16).view(np.uint8)
    result = dequantize(torch.from_numpy(blocks).flatten(), "q4_k", 3, 256, torch.bfloat16)
    assert result.isnan().all(dim=1).tolist() == [False, True, False]
    assert torch.equal(result[[0, 2]], by_gguf(blocks[[0, 2]], "q4_k").bfloat16())


def test_bytes_need_not_be_aligned(isa: str) -> None:
    for fmt in ("f32", "q5_k"):
        block = FORMATS[fmt]
        data = torch.randint(0, 60, (256 // block.block_size * block.block_bytes + 1,), dtype=torch.uint8)
        shifted = dequantize(data[1:], fmt, 1, 256, torch.float32)
        assert torch.equal(shifted, dequantize(data[1:].clone(), fmt, 1, 256, torch.float32))


def test_no_rows(isa: str) -> None:
    assert dequantize(torch.empty(0, dtype=torch.uint8), "q4_0", 0, 64, torch.bfloat16).shape == (0, 64)


def test_errors_name_what_came() -> None:
    data = torch.zeros(18, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"the format is 'iq2_xxs'; it must be one of f32, f16, .*q6_k"):
        dequantize(data, "iq2_xxs", 1, 32, torch.float32)
    with pytest.raises(ValueError, match=r"1 rows of 33 elements are no whole blocks; q4_0 has blocks of 32"):
        dequantize(data, "q4_0", 1, 33, torch.float32)
    with pytest.raises(ValueError, match=r"q4_k has blocks of 256"):
        dequantize(data, "q4_k", 1, 32, torch.float32)
    with pytest.raises(ValueError, match=r"data is \[18\] torch.uint8; 2 x 32 elements of q4_0 are \[36\]"):
        dequantize(data, "q4_0", 2, 32, torch.float32)
    with pytest.raises(ValueError, match=r"the dtype is torch.float16"):
        dequantize(data, "q4_0", 1, 32, torch.float16)
