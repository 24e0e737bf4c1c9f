from __future__ import annotations

import pytest
import torch
from transformers.models.gemma3.modeling_gemma3 import Gemma3TextScaledWordEmbedding

from kvik.kernels.dequantize import FORMATS
from kvik.kernels.embedding import embedding, reference
from kvik.kernels.linear import QUANTIZED, PackedWeight
from support.triton_interpreter import standing_in_for_gpu

DTYPES = [torch.float32, torch.bfloat16]
IDS = torch.tensor([3, 0, 16, 3, 36, 15, 17], dtype=torch.int32)


def table(size: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(37, size, generator=torch.Generator().manual_seed(size)).to(dtype)


def packed(plain: torch.Tensor) -> PackedWeight:
    weight = PackedWeight.allocate(*plain.shape, plain.dtype)
    weight.fill_rows(0, plain)
    return weight


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 15, 16, 33, 64])
def test_rows_of_a_plain_and_a_packed_table(backend: str, size: int, dtype: torch.dtype) -> None:
    plain = table(size, dtype)
    assert torch.equal(embedding(IDS, plain, dtype), plain[IDS])
    assert torch.equal(embedding(IDS, packed(plain), dtype), plain[IDS])
    assert torch.equal(reference.embedding(IDS, plain, dtype), plain[IDS])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [2.0, 640**0.5])
def test_scale_as_transformers_gemma(backend: str, scale: float, dtype: torch.dtype) -> None:
    plain = table(33, dtype)
    module = Gemma3TextScaledWordEmbedding(37, 33, padding_idx=0, embed_scale=scale).to(dtype)
    module.weight.data.copy_(plain)
    expected = module(IDS).detach()
    assert torch.equal(embedding(IDS, plain, dtype, scale), expected)
    assert torch.equal(embedding(IDS, packed(plain), dtype, scale), expected)
    assert torch.equal(reference.embedding(IDS, plain, dtype, scale), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("source", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_a_table_of_another_dtype_is_rounded(backend: str, source: torch.dtype, dtype: torch.dtype) -> None:
    plain = table(33, source)
    assert torch.equal(embedding(IDS, plain, dtype), plain[IDS].to(dtype))
    assert torch.equal(embedding(IDS, packed(plain), dtype), plain[IDS].to(dtype))


def test_special_values_keep_their_bits(backend: str) -> None:
    bits = torch.tensor([[0x7F81, 0x7F80, 0x0001, -0x8000, 0x7FFF]], dtype=torch.int16)
    plain = bits.view(torch.bfloat16)
    ids = torch.zeros(1, dtype=torch.int32)
    assert torch.equal(embedding(ids, plain, torch.bfloat16).view(torch.int16), bits)
    assert torch.equal(embedding(ids, packed(plain), torch.bfloat16).view(torch.int16), bits)


@pytest.mark.parametrize("bad", [-1, 37])
def test_an_id_outside_the_table(isa: str, bad: int) -> None:
    plain, ids = table(16, torch.float32), torch.tensor([1, bad], dtype=torch.int32)
    for weight in (plain, packed(plain)):
        with pytest.raises(IndexError, match=rf"ids\[1\] is {bad}; it must lie in \[0, 37\)"):
            embedding(ids, weight, torch.float32)
    with pytest.raises(IndexError, match=r"must lie in \[0, 37\)"):
        reference.embedding(ids, plain, torch.float32)


def test_a_gpu_has_zeros_for_an_id_outside_the_table() -> None:
    with standing_in_for_gpu():
        ids, plain = torch.tensor([1, -1, 37, 2**31 - 1, 36], dtype=torch.int32), table(33, torch.bfloat16)
        expected = torch.zeros(5, 33)
        expected[0], expected[4] = plain[1].float(), plain[36].float()
        for weight in (plain, packed(plain)):
            assert torch.equal(embedding(ids, weight, torch.float32), expected)


@pytest.mark.parametrize("fmt", QUANTIZED)
@pytest.mark.parametrize("scale", [1.0, 25.3])
def test_rows_of_a_quantised_table_on_a_gpu(fmt: str, scale: float) -> None:
    with standing_in_for_gpu():
        k = 96 if QUANTIZED[fmt] == 32 else 768  # more than one program for a row
        weight = PackedWeight.allocate(37, k, fmt)
        row_bytes = k // QUANTIZED[fmt] * FORMATS[fmt].block_bytes
        blocks = torch.randint(60, (37, row_bytes), generator=torch.Generator().manual_seed(k), dtype=torch.uint8)
        weight.fill_blocks(0, blocks)  # bytes below 60: numbers of fp16 below 1.2
        plain = weight.plain()
        ids = torch.tensor([36, 0, -1, 5, 37], dtype=torch.int32)
        for dtype in (*DTYPES, torch.float16):
            expected = reference.embed(plain[ids.clamp(0, 36)], dtype, scale)
            expected[[2, 4]] = 0
            assert torch.equal(embedding(ids, weight, dtype, scale), expected)


def test_rows_of_columns_of_a_wider_tensor_on_a_gpu() -> None:
    with standing_in_for_gpu():
        plain = table(64, torch.float16)
        assert torch.equal(embedding(IDS, plain[:, 3:20], torch.float16), plain[IDS, 3:20])
        assert torch.equal(embedding(IDS, plain[:, ::2], torch.float16), plain[IDS, ::2])


def test_no_ids(backend: str) -> None:
    assert embedding(IDS[:0], table(8, torch.float32), torch.bfloat16).shape == (0, 8)


def test_errors_name_what_came() -> None:
    with pytest.raises(ValueError, match=r"ids are \[7\] torch.int64; they must be \[T\] torch.int32"):
        embedding(IDS.long(), table(8, torch.float32), torch.float32)
    with pytest.raises(ValueError, match=r"ids lie on meta; they must be where the table is"):
        embedding(IDS.to("meta"), table(8, torch.float32), torch.float32)
    with pytest.raises(ValueError, match=r"the table is \[8\] torch.float32; it must be \[V, H\]"):
        embedding(IDS, torch.zeros(8), torch.float32)
