from __future__ import annotations

import pytest
import torch

from kvik.kernels import runtime
from kvik.kernels.dequantize import FORMATS
from kvik.kernels.linear import PackedWeight, linear, reference

F32 = torch.float32
DTYPES = [torch.float32, torch.bfloat16]  # of the weight
ROW_COUNTS = [*range(1, 18), 31, 32, 33, 63, 64, 65]
SHAPES = [(1, 1), (15, 3), (16, 16), (17, 31), (33, 64), (100, 127), (144, 576)]  # N, K


def random(*shape: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def packed(weight: torch.Tensor) -> PackedWeight:
    result = PackedWeight.allocate(*weight.shape, weight.dtype)
    result.fill_rows(0, weight)
    return result


def exact(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    return torch.nn.functional.linear(x.double(), weight.double(), None if bias is None else bias.double())


def assert_as_exact(actual: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
    """Within an fp32 sum's error, a step of 2^-24 of the sum of magnitudes for each term."""
    expected = exact(x, weight, bias)
    magnitude = exact(x.abs(), weight.abs(), None if bias is None else bias.abs())
    allowed = (x.shape[1] + 2) * 2.0**-24 * magnitude
    assert actual.dtype is F32
    assert ((actual.double() - expected).abs() <= allowed).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "k"), SHAPES)
def test_against_float64(isa: str, n: int, k: int, dtype: torch.dtype) -> None:
    weight, bias = random(n, k, dtype=dtype), random(n, dtype=F32, seed=1)
    wide = random(65, k, dtype=F32, seed=2)
    weight_packed = packed(weight)
    for rows in ROW_COUNTS:
        x = wide[:rows]
        assert_as_exact(linear(x, weight_packed), x, weight, None)
        assert_as_exact(linear(x, weight_packed, bias), x, weight, bias)
        torch.testing.assert_close(linear(x, weight_packed), reference.linear(x, weight), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "k"), [(100, 127), (33, 64), (70, 2500)])  # the last takes K in several blocks
def test_a_row_has_the_same_bits_in_any_company(isa: str, n: int, k: int, dtype: torch.dtype) -> None:
    weight = packed(random(n, k, dtype=dtype))
    x = random(400, k, dtype=F32, seed=1)
    alone = torch.cat([linear(row[None], weight) for row in x])
    for rows in [*ROW_COUNTS, 192, 193, 400]:
        assert torch.equal(linear(x[:rows], weight), alone[:rows]), rows
        assert torch.equal(linear(x[400 - rows :], weight), alone[400 - rows :]), rows


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_number_of_threads_gives_the_same_bits(isa: str, dtype: torch.dtype) -> None:
    weight = packed(random(500, 300, dtype=dtype))
    x = random(200, 300, dtype=F32, seed=1)
    runtime.set_num_threads(1)
    expected = linear(x, weight)
    for num_threads in (2, 3, 7):
        runtime.set_num_threads(num_threads)
        assert torch.equal(linear(x, weight), expected)
        assert torch.equal(linear(x[:1], weight), expected[:1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_and_infinity_stay_in_their_row(isa: str, bad: float, dtype: torch.dtype) -> None:
    weight = packed(random(40, 33, dtype=dtype))
    x = random(20, 33, dtype=F32, seed=1)
    expected = linear(x, weight)
    for column in (0, 31, 32):  # the last element of an odd K has no partner in its row
        poisoned = x.clone()
        poisoned[11, column] = bad
        result = linear(poisoned, weight)
        assert not result[11].isfinite().any()
        assert torch.equal(result[:11], expected[:11])
        assert torch.equal(result[12:], expected[12:])


def test_inputs_at_the_ends_of_the_range(isa: str) -> None:
    """Numbers that bf16 would round to infinity, tiny ones, and the last bits of a mantissa."""
    x = torch.tensor([[3.4e38, 0.0], [-3.4e38, 0.0], [1e-30, 0.0], [1.0 + 2.0**-15, -1.0], [0.0, 1.0 + 2.0**-15]])
    weight = torch.tensor([[1.0, 1.0]]).bfloat16()
    result = linear(x, packed(weight))[:, 0]
    assert torch.equal(result, x.sum(dim=1))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_nan_in_the_weight_stays_in_its_column(isa: str, dtype: torch.dtype) -> None:
    plain, x = random(40, 33, dtype=dtype), random(5, 33, dtype=F32, seed=1)
    expected = linear(x, packed(plain))
    plain = plain.clone()
    plain[17, 4] = float("nan")
    result = linear(x, packed(plain))
    assert result[:, 17].isnan().all()
    assert torch.equal(result[:, :17], expected[:, :17])
    assert torch.equal(result[:, 18:], expected[:, 18:])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 5, 13])
def test_touches_nothing_beyond_its_buffers(isa: str, rows: int, dtype: torch.dtype) -> None:
    """The native call between guards: NaN around x would show in the sums, 42 around the output if overwritten."""
    n, k = 21, 9
    weight = packed(random(n, k, dtype=dtype))
    x = random(rows, k, dtype=F32, seed=1)
    guarded_x = torch.full((rows + 2, k), float("nan"))
    guarded_x[1:-1] = x
    guarded_out = torch.full((rows + 2, n), 42.0)
    inner_x, inner_out = guarded_x[1:-1], guarded_out[1:-1]
    code = FORMATS[weight.format].code
    runtime.native.linear(inner_out.data_ptr(), n, inner_x.data_ptr(), weight.data.data_ptr(), 0, rows, n, k, code)
    assert torch.equal(inner_out, linear(x, weight))
    assert (guarded_out[[0, -1]] == 42).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("source", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(("n", "k"), SHAPES)
def test_pieces_at_any_row_pack_to_the_layout(
    isa: str, n: int, k: int, source: torch.dtype, dtype: torch.dtype
) -> None:
    plain = random(n, k, dtype=source)
    weight = PackedWeight.allocate(n, k, dtype)
    for first in range(0, n, 7):
        weight.fill_rows(first, plain[first : first + 7])
    assert torch.equal(weight.data, reference.pack(plain.to(dtype)))
    assert torch.equal(reference.unpack(weight.data, n, k), plain.to(dtype))
    assert weight.nbytes == weight.data.numel() * dtype.itemsize
    assert weight.data.data_ptr() % 64 == 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "k"), SHAPES)
def test_rows_by_id(isa: str, n: int, k: int, dtype: torch.dtype) -> None:
    plain = random(n, k, dtype=dtype)
    ids = torch.randint(n, (50,), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    weight = packed(plain)
    assert torch.equal(weight.rows(ids), plain[ids])
    assert torch.equal(weight.rows(ids.long()), plain[ids])
    for bad in (-1, n):
        with pytest.raises(IndexError, match=rf"ids\[1\] is {bad}; it must lie in \[0, {n}\)"):
            weight.rows(torch.tensor([0, bad], dtype=torch.int32))


def test_bf16_special_values_pack_as_torch_rounds(isa: str) -> None:
    bits = torch.tensor([0x3F808000, 0x3F818000, 0x3F80FFFF, 0x7F7FFFFF, 0x7F800000, -0x800000, 0x7FC12345])
    values = bits.to(torch.int32).view(torch.float32)[None]
    weight = PackedWeight.allocate(1, 7, torch.bfloat16)
    weight.fill_rows(0, values)
    torch.testing.assert_close(weight.rows(torch.tensor([0])), values.bfloat16(), rtol=0, atol=0, equal_nan=True)


def test_takes_rows_that_are_not_contiguous(isa: str) -> None:
    plain = random(40, 64, dtype=torch.float32)
    x = random(5, 64, dtype=torch.float32, seed=1)
    weight = PackedWeight.allocate(40, 32, torch.float32)
    weight.fill_rows(0, plain[:, :32])
    assert torch.equal(linear(x[:, 32:], weight), linear(x[:, 32:].clone(), packed(plain[:, :32].clone())))


def test_no_rows() -> None:
    assert linear(torch.zeros(0, 8), packed(torch.zeros(3, 8))).shape == (0, 3)


def test_a_big_weight_takes_no_memory_before_it_is_filled() -> None:
    weight = PackedWeight.allocate(1 << 18, 1 << 18, torch.bfloat16)
    assert weight.nbytes == 1 << 37
    assert weight.data[-1, -1].eq(0).all()


def test_other_dtypes_stay_plain() -> None:
    plain = random(9, 8, dtype=torch.float64)
    weight = packed(plain)
    assert not weight.is_packed
    assert torch.equal(linear(plain, weight), reference.linear(plain, plain))
    assert linear(plain.float(), weight).dtype is F32
    with pytest.raises(ValueError, match=r"it must be \[T, 8\] torch.float32 or torch.float64"):
        linear(plain.bfloat16(), weight)
    assert torch.equal(weight.rows(torch.tensor([8, 0])), plain[[8, 0]])
    with pytest.raises(IndexError, match=r"ids reach from 0 to 9; they must lie in \[0, 9\)"):
        weight.rows(torch.tensor([0, 9]))


def test_errors_name_what_came() -> None:
    weight = packed(torch.zeros(3, 8))
    with pytest.raises(ValueError, match=r"x is \[2, 7\] torch.float32; for this weight it must be \[T, 8\]"):
        linear(torch.zeros(2, 7), weight)
    with pytest.raises(ValueError, match=r"x is \[2, 8\] torch.bfloat16; .* it must be \[T, 8\] torch.float32"):
        linear(torch.zeros(2, 8).bfloat16(), weight)
    with pytest.raises(ValueError, match=r"x lies on meta; .* must be on cpu"):
        linear(torch.zeros(2, 8, device="meta"), weight)
    with pytest.raises(ValueError, match=r"bias is \[4\] torch.float32; for this weight and x it must be \[3\]"):
        linear(torch.zeros(2, 8), weight, torch.zeros(4))
    with pytest.raises(ValueError, match=r"rows \[2, 4\) do not lie in \[0, 3\)"):
        weight.fill_rows(2, torch.zeros(2, 8))
    with pytest.raises(ValueError, match=r"weight is \[2, 9\] torch.float32; it must be \[rows, 8\]"):
        weight.fill_rows(0, torch.zeros(2, 9))
    with pytest.raises(ValueError, match=r"weight is \[2, 8\] torch.int32"):
        weight.fill_rows(0, torch.zeros(2, 8, dtype=torch.int32))
    with pytest.raises(ValueError, match=r"ids are \[2, 1\] torch.int64"):
        weight.rows(torch.zeros(2, 1, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"a weight of 0 x 8 cannot be packed"):
        PackedWeight.allocate(0, 8, torch.float32)
