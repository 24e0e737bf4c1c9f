"""Each Triton kernel as the GPU runs it, at sizes of real models, against the reference on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from kvik.kernels import launch
from kvik.kernels.embedding import embedding
from kvik.kernels.embedding import reference as embedding_reference
from kvik.kernels.gated_activation import gated_activation
from kvik.kernels.gated_activation import reference as gated_reference
from kvik.kernels.linear import FP8_FORMATS, PackedWeight, linear
from kvik.kernels.linear import reference as linear_reference
from kvik.kernels.linear.fp8_layout import join, num_scales
from kvik.kernels.lora import LoraFactors, LoraSlots, lora
from kvik.kernels.paged_attention import backends, paged_attention
from kvik.kernels.paged_attention import reference as attention_reference
from kvik.kernels.paged_attention.backends import Work, misfit
from kvik.kernels.rms_norm import add_rms_norm, rms_norm
from kvik.kernels.rms_norm import reference as norm_reference
from kvik.kernels.rope import reference as rope_reference
from kvik.kernels.rope import rope_and_cache
from kvik.kernels.sample import arg_max, sample
from kvik.kernels.sample import reference as sample_reference
from support.attention_requests import attention_requests

pytestmark = pytest.mark.gpu

F8, E5M2, BF16, F16, F32 = torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16, torch.float16, torch.float32
FLOATS = (BF16, F16, F32)


def random(*shape: int, dtype: torch.dtype = F32, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def assert_close(found: torch.Tensor, wanted: torch.Tensor, steps: float = 1.0) -> None:
    """Within some rounding steps of the dtype; fp32 has more of them, since its sums run in another order."""
    rounding = torch.finfo(found.dtype).eps * steps * (16 if found.dtype is F32 else 1)
    torch.testing.assert_close(found.cpu().float(), wanted.float(), rtol=rounding, atol=rounding)


# --- element by element --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_norms(dtype: torch.dtype, place: torch.device, is_small: bool) -> None:
    for size in (96, 300) if is_small else (576, 4096, 8192):
        x, residual, weight = (
            random(*shape, dtype=dtype, seed=i) for i, shape in enumerate([(9, size)] * 2 + [(size,)])
        )
        assert_close(rms_norm(x.to(place), weight.to(place), 1e-5), norm_reference.rms_norm(x, weight, 1e-5))
        there = residual.clone().to(place)
        found = add_rms_norm(x.to(place), there, weight.to(place), 1e-5)
        assert_close(found, norm_reference.add_rms_norm(x, residual, weight, 1e-5))
        assert torch.equal(there.cpu(), residual)


@pytest.mark.parametrize("kind", ["silu", "gelu_tanh"])
def test_activations(kind: Any, place: torch.device, is_small: bool) -> None:
    x = random(5, 200 if is_small else 28672, dtype=BF16)
    assert_close(gated_activation(x.to(place), kind), gated_reference.gated_activation(x, kind), steps=2)


def test_embedding(place: torch.device, is_small: bool) -> None:
    rows, size = (30, 70) if is_small else (128256, 4096)
    table, ids = random(rows, size, dtype=BF16), torch.tensor([0, 7, rows - 1, 7], dtype=torch.int32)
    found = embedding(ids.to(place), table.to(place), BF16, 2.5)
    assert torch.equal(found.cpu(), embedding_reference.embedding(ids, table, BF16, 2.5))


# --- products ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", ["q8_0", "q4_0", "q4_1"])
@pytest.mark.parametrize("num_rows", [1, 30, 200])
def test_quantised_products(fmt: str, num_rows: int, place: torch.device, is_small: bool) -> None:
    n, k = (64, 96) if is_small else (4096, 4096)
    num_rows = min(num_rows, 3) if is_small else num_rows
    weight = PackedWeight.allocate(n, k, fmt, place)
    weight.fill_rows(0, random(n, k).to(place) / k**0.5)
    x = random(num_rows, k, dtype=BF16, seed=1)
    plain = weight.rows(torch.arange(n, device=place)).cpu().double()
    wanted, magnitude = x.double() @ plain.T, x.double().abs() @ plain.abs().T
    off = (linear(x.to(place), weight).cpu().double() - wanted).abs()
    assert (off <= 2.0**-8 * 1.5 * magnitude + 1e-6).all()


@pytest.mark.parametrize("fmt", FP8_FORMATS)
@pytest.mark.parametrize("num_rows", [1, 30, 60, 200])
def test_products_of_8_bit_floats(fmt: str, num_rows: int, place: torch.device, is_small: bool) -> None:
    """Inputs are rounded as the reference does it, where this GPU multiplies such numbers."""
    n, k = (64, 272) if is_small else (4096, 4096)
    num_rows = min(num_rows, 3) if is_small else num_rows
    scales = random(n, num_scales(fmt, k), seed=2).abs() * 0.01 + 0.001
    rows = join(random(n, k).clamp(-400, 400).to(F8).view(torch.uint8), scales)
    weight = PackedWeight.allocate(n, k, fmt, place)
    weight.fill_blocks(0, rows.to(place))
    x = random(num_rows, k, dtype=BF16, seed=1)
    input_scale = None if weight.input_scale is None else weight.input_scale.cpu()
    is_rounded = not launch.lacks_fp8()
    wanted = linear_reference.fp8_linear(x, rows, fmt, None, input_scale, is_rounded=is_rounded).double()
    plain = weight.rows(torch.arange(n, device=place)).cpu().double()
    magnitude = x.double().abs() @ plain.abs().T
    off = (linear(x.to(place), weight).cpu().double() - wanted).abs()
    assert (off <= 2.0**-8 * 1.5 * magnitude + 1e-6).all()


def test_adapters(place: torch.device, is_small: bool) -> None:
    sizes, k, rank = ([40, 20], 64, 8) if is_small else ([4096, 1024, 1024], 4096, 16)
    slots = LoraSlots(sizes, k, 2, rank, BF16, place)
    factors = [
        LoraFactors(random(rank, k, seed=i) / k**0.5, random(n, rank, seed=9 + i), 0.5) for i, n in enumerate(sizes)
    ]
    for part, factor in enumerate(factors):
        slots.write(1, part, LoraFactors(factor.a.to(BF16).to(place), factor.b.to(BF16).to(place), factor.scale))
    x, out = random(5, k, dtype=BF16), random(5, sum(sizes), dtype=BF16, seed=3)
    found, row_slots = out.clone().to(place), torch.tensor([1, -1, 1, 0, 1], dtype=torch.int32)
    lora(found, x.to(place), row_slots.to(place), slots)
    added = torch.cat([f.scale * (x.double() @ f.a.double().T) @ f.b.double().T for f in factors], 1)
    wanted = out.double() + added * (row_slots == 1)[:, None]
    torch.testing.assert_close(found.cpu().double(), wanted, rtol=3e-2, atol=3e-2)


# --- attention -----------------------------------------------------------------------------------------

BATCHES = {
    "decode": [(1, 700), (1, 3), (1, 64), (1, 1)],
    "decode, long": [(1, 20_000), (1, 9)],
    "mixed": [(300, 300), (1, 500), (70, 260), (1, 1)],
}


def attend_and_compare(place: torch.device, attend: Callable[..., torch.Tensor], *, window: int, **given: Any) -> None:
    arguments = attention_requests(**given, place=place)
    scales = {"k_scale": 0.5, "v_scale": 2.0} if given["cache"] in (F8, E5M2) else {}
    longest = max(queries for queries, _ in given["shapes"])
    found = attend(**arguments, max_query_len=longest, window=window, **scales)
    on_host = {name: value.cpu() if isinstance(value, torch.Tensor) else value for name, value in arguments.items()}
    wanted = attention_reference.paged_attention(**(on_host | {"q": on_host["q"].float()}), window=window, **scales)
    tolerance = {F32: 2e-3, F16: 4e-3, BF16: 2e-2}[given["dtype"]]
    torch.testing.assert_close(found.cpu().float(), wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("head_dim", [64, 80, 128, 256])
@pytest.mark.parametrize(("dtype", "cache"), [(BF16, BF16), (F16, F16), (F32, F16), (BF16, F8), (BF16, E5M2)])
def test_attention(
    batch: str, head_dim: int, dtype: torch.dtype, cache: torch.dtype, place: torch.device, is_small: bool
) -> None:
    if cache is F8 and launch.lacks_fp8():
        pytest.skip("this GPU has no fp8")
    shapes = [(min(q, 5), min(n, 40)) for q, n in BATCHES[batch]] if is_small else BATCHES[batch]
    for window in (0, 100):
        attend_and_compare(
            place,
            paged_attention,
            shapes=shapes,
            hq=8,
            hkv=2,
            head_dim=head_dim,
            dtype=dtype,
            cache=cache,
            window=window,
        )


@pytest.mark.parametrize("name", ["FLASH_ATTN", "FLASHINFER", "TORCH_SDPA"])
@pytest.mark.parametrize("batch", BATCHES)
def test_other_backends(name: str, batch: str, place: torch.device, is_small: bool) -> None:
    block = 256 if name == "FLASH_ATTN" else 16
    work = Work(on_gpu=True, dtype=BF16, cache_dtype=BF16, head_dim=128, block_size=block)
    if why_not := misfit(name, work):
        pytest.skip(why_not)
    shapes = [(min(q, 5), min(n, 40)) for q, n in BATCHES[batch]] if is_small else BATCHES[batch]
    attend = backends.choose(name, work).attend
    attend_and_compare(
        place, attend, shapes=shapes, hq=8, hkv=2, head_dim=128, block=block, dtype=BF16, cache=BF16, window=0
    )


@pytest.mark.parametrize("cache", [BF16, F8, E5M2])
def test_rope_and_what_the_cache_gets(cache: torch.dtype, place: torch.device) -> None:
    if cache is F8 and launch.lacks_fp8():
        pytest.skip("this GPU has no fp8")
    arguments = attention_requests([(3, 3)], hq=8, hkv=2, head_dim=128, cache=cache)
    k, v = arguments["k_cache"], arguments["v_cache"]
    qkv, tables = random(3, 12 * 128, dtype=BF16), random(9, 128, seed=2)
    norm = random(128, dtype=BF16, seed=3)
    positions, slots = torch.tensor([0, 4, 8]).int(), torch.tensor([17, -1, 20]).int()
    options = {"num_heads": 8, "num_kv_heads": 2, "q_norm": norm, "k_norm": norm}
    there = {name: value.to(place) if isinstance(value, torch.Tensor) else value for name, value in options.items()}
    k_there, v_there = (cached.clone(memory_format=torch.preserve_format).to(place) for cached in (k, v))
    q = rope_and_cache(qkv.to(place), tables.to(place), positions.to(place), slots.to(place), k_there, v_there, **there)
    wanted = rope_reference.rope_and_cache(qkv, tables, positions, slots, k, v, **options)
    assert_close(q, wanted, steps=4)
    for found, expected in ((k_there, k), (v_there, v)):
        torch.testing.assert_close(found.cpu().float(), expected.float(), rtol=0.26, atol=1e-2, equal_nan=True)


# --- sampling ------------------------------------------------------------------------------------------

WAYS = [
    {}, {"temperature": 0.0}, {"temperature": 0.7, "top_p": 0.9}, {"top_k": 40}, {"min_p": 0.05},
    {"temperature": 1.3, "top_k": 50, "top_p": 0.5, "min_p": 0.02}, {"top_p": 0.999},
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_sampled_tokens_are_exactly_the_references(way: dict[str, float], place: torch.device, is_small: bool) -> None:
    num_rows, vocab_size = (2, 500) if is_small else (64, 128256)
    logits = random(num_rows, vocab_size) * 3
    defaults = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
    columns = [
        torch.full((num_rows,), value, dtype=torch.int32 if name == "top_k" else F32)
        for name, value in (defaults | way).items()
    ]
    rows = torch.arange(num_rows)
    wanted = sample_reference.sample(logits, *columns, rows * 77 - 5, rows * 3)
    found = sample(logits.to(place), *(column.to(place) for column in [*columns, rows * 77 - 5, rows * 3]))
    assert torch.equal(found.cpu(), wanted)


def test_arg_max(place: torch.device, is_small: bool) -> None:
    logits = (random(3 if is_small else 256, 500 if is_small else 128256) * 2).round()
    assert torch.equal(arg_max(logits.to(place)).cpu(), logits.argmax(-1))
