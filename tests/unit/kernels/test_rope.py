"""rope_and_cache against transformers' rotary embedding and a plain walk over the cache."""

from __future__ import annotations

import pytest
import torch
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from kvik.kernels.paged_attention import allocate_kv_cache
from kvik.kernels.paged_attention.cache import scales_of
from kvik.kernels.rope import reference, rope_and_cache

DTYPES = [torch.float16, torch.bfloat16, torch.float32]  # of the cache
I8 = torch.int8
HQ, HKV, BLOCK = 6, 2, 16
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
ONE_ROUNDING = {  # a sum of squares in another order may tip it
    torch.float16: {"rtol": 2**-10, "atol": 1e-5}, torch.bfloat16: {"rtol": 2**-7, "atol": 1e-5}, torch.float32: CLOSE,
}  # fmt: skip


def table(head_dim: int, max_position: int = 300) -> torch.Tensor:
    frequencies = 10000.0 ** (-torch.arange(0, head_dim, 2) / head_dim)
    angles = torch.arange(max_position)[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def inputs(num_tokens: int, head_dim: int, dtype: torch.dtype, seed: int = 0) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    qkv = torch.randn(num_tokens, (HQ + 2 * HKV) * head_dim, generator=rng)
    positions = torch.randint(0, 300, (num_tokens,), generator=rng, dtype=torch.int32)
    slots = torch.randperm(8 * BLOCK, generator=rng)[:num_tokens].int()
    k_cache, v_cache = allocate_kv_cache(8, HKV, head_dim, BLOCK, dtype)
    return {
        "qkv": qkv, "cos_sin": table(head_dim), "positions": positions, "slots": slots,
        "k_cache": k_cache, "v_cache": v_cache,
    }  # fmt: skip


def stored(cache: torch.Tensor, slot: int, head: int, *, is_key: bool) -> torch.Tensor:
    """One token's key or value, read element by element from the documented layout."""
    block, offset = divmod(slot, BLOCK)
    here = cache[block, head]
    return here[:, offset] if is_key else here[offset]


def expected(given: dict[str, torch.Tensor], head_dim: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """q, k [T, H, D] by transformers, v [T, H, D] as it came."""
    heads = given["qkv"].view(-1, HQ + 2 * HKV, head_dim).transpose(0, 1)[None]  # [1, H, T, D]
    rows = given["cos_sin"][given["positions"].long()]
    cos, sin = (torch.cat([half, half], dim=-1)[None] for half in rows.chunk(2, dim=-1))
    q, k = apply_rotary_pos_emb(heads[:, :HQ], heads[:, HQ : HQ + HKV], cos, sin)
    return tuple(x[0].transpose(0, 1) for x in (q, k, heads[:, HQ + HKV :]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("head_dim", [8, 16, 32, 64, 80, 96, 128, 256])
@pytest.mark.parametrize("num_tokens", [1, 2, 17, 33])
def test_equals_transformers_bit_for_bit(dtype, head_dim, num_tokens):
    given = inputs(num_tokens, head_dim, dtype)
    untouched = given["qkv"].clone()
    q, k, v = expected(given, head_dim)
    out = rope_and_cache(**given, num_heads=HQ, num_kv_heads=HKV)
    assert torch.equal(out.view(num_tokens, HQ, head_dim), q)
    for t, slot in enumerate(given["slots"].tolist()):
        for head in range(HKV):
            assert torch.equal(stored(given["k_cache"], slot, head, is_key=True), k[t, head].to(dtype))
            assert torch.equal(stored(given["v_cache"], slot, head, is_key=False), v[t, head].to(dtype))
    assert torch.equal(given["qkv"], untouched)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("head_dim", [8, 64, 80, 128])
@pytest.mark.parametrize("unit_offset", [False, True])
def test_norms_each_head_before_the_rotation(dtype, head_dim, unit_offset):
    given = inputs(9, head_dim, dtype, seed=1)
    q_norm, k_norm = torch.randn(2, head_dim, generator=torch.Generator().manual_seed(2))
    twin = {**given, "k_cache": given["k_cache"].clone(), "v_cache": given["v_cache"].clone()}
    heads = twin["qkv"].view(9, -1, head_dim).clone()
    for part, weight in ((slice(0, HQ), q_norm), (slice(HQ, HQ + HKV), k_norm)):
        norm = Qwen3RMSNorm(head_dim, eps=1e-6)
        norm.weight.data = 1 + weight if unit_offset else weight
        heads[:, part] = norm(heads[:, part])
    twin["qkv"] = heads.view(9, -1)
    norms = {"q_norm": q_norm, "k_norm": k_norm, "eps": 1e-6, "unit_offset": unit_offset}
    out = rope_and_cache(**given, num_heads=HQ, num_kv_heads=HKV, **norms)
    want = rope_and_cache(**twin, num_heads=HQ, num_kv_heads=HKV)
    torch.testing.assert_close(out, want, **CLOSE)
    torch.testing.assert_close(given["k_cache"], twin["k_cache"], **ONE_ROUNDING[dtype])
    assert torch.equal(given["v_cache"], twin["v_cache"])


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_negative_slot_is_not_written(dtype):
    given = inputs(5, 16, dtype)
    given["slots"][2] = -1
    rope_and_cache(**given, num_heads=HQ, num_kv_heads=HKV)
    written = {slot for slot in range(8 * BLOCK) if stored(given["v_cache"], slot, 0, is_key=False).any()}
    assert written == {slot for slot in given["slots"].tolist() if slot >= 0}


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("with_norm", [False, True])
def test_equals_the_reference(dtype, with_norm):
    for head_dim in (8, 16, 48, 64, 72, 128):
        given = inputs(40, head_dim, dtype, seed=head_dim)
        twin = {**given, "k_cache": given["k_cache"].clone(), "v_cache": given["v_cache"].clone()}
        weight = torch.linspace(0.5, 1.5, head_dim)
        norms = {"q_norm": weight, "k_norm": weight, "eps": 1e-5} if with_norm else {}
        out = rope_and_cache(**given, num_heads=HQ, num_kv_heads=HKV, **norms)
        want = reference.rope_and_cache(**twin, num_heads=HQ, num_kv_heads=HKV, **norms)
        exact = {"rtol": 0, "atol": 0}
        close = ONE_ROUNDING[dtype]
        torch.testing.assert_close(out, want, **(CLOSE if with_norm else exact))
        torch.testing.assert_close(given["k_cache"], twin["k_cache"], **(close if with_norm else exact))
        assert torch.equal(given["v_cache"], twin["v_cache"])


def every_half() -> torch.Tensor:
    """Floats at, between and just beside all fp16 numbers, and beyond their ends: [n]."""
    halves = torch.arange(2**16).to(torch.int32).to(torch.int16).view(torch.float16).float()
    halves = halves[halves.isfinite()]
    up, middle = halves.nextafter(torch.tensor(torch.inf)), halves * (1 + 2.0**-11)
    tiny = torch.arange(-4099, 4099) * 2.0**-25  # subnormal, whole and half counts of 2^-24
    ends = torch.tensor([65503.9, 65504, 65519.9, 65520, 65536, 1e5, 3.4e38, torch.inf, torch.nan])
    return torch.cat([ends, -ends, halves, up, middle, tiny, tiny.nextafter(torch.tensor(1.0))])


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("head_dim", [16, 10])
def test_fp16_is_rounded_to_nearest_even_and_ends_at_its_largest(head_dim):
    values = every_half()
    num_tokens = len(values) // head_dim
    heads = values[: num_tokens * head_dim].view(num_tokens, head_dim)
    k_cache, v_cache = allocate_kv_cache(num_tokens, 1, head_dim, 1, torch.float16)
    no_rotation = torch.cat([torch.ones(1, head_dim // 2), torch.zeros(1, head_dim // 2)], dim=1)
    rope_and_cache(
        torch.cat([heads, torch.zeros_like(heads), heads], dim=1), no_rotation,
        torch.zeros(num_tokens, dtype=torch.int32), torch.arange(num_tokens, dtype=torch.int32), k_cache, v_cache,
        num_heads=1, num_kv_heads=1,
    )  # fmt: skip
    stored_values, wanted = v_cache.view(num_tokens, head_dim), heads.clamp(-65504, 65504).half()
    assert stored_values.isnan().any()
    assert not stored_values.isinf().any()
    torch.testing.assert_close(stored_values, wanted, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(stored_values.signbit()[~heads.isnan()], heads.signbit()[~heads.isnan()])


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("head_dim", [8, 16, 48, 64, 72, 80, 128, 256])
def test_int8_equals_the_reference_bit_for_bit(head_dim):
    """Integers and scales: on every instruction set the same divisions, rounded to even."""
    given = inputs(40, head_dim, I8, seed=head_dim)
    given["qkv"][5] = 0
    given["qkv"][6] *= 1e-44
    given["qkv"][7] *= 1e38
    given["qkv"][8, -1], given["qkv"][9, -2], given["qkv"][9, -3] = torch.nan, torch.inf, -torch.inf
    twin = {**given, "k_cache": given["k_cache"].clone(), "v_cache": given["v_cache"].clone()}
    rope_and_cache(**given, num_heads=HQ, num_kv_heads=HKV)
    reference.rope_and_cache(**twin, num_heads=HQ, num_kv_heads=HKV)
    assert torch.equal(given["k_cache"][:, :, :head_dim], twin["k_cache"][:, :, :head_dim])
    assert torch.equal(given["v_cache"], twin["v_cache"])
    scales, wanted = (torch.cat(scales_of(cache["k_cache"], head_dim)) for cache in (given, twin))
    assert wanted.isnan().sum() == 1
    torch.testing.assert_close(scales, wanted, rtol=0, atol=0, equal_nan=True)


@pytest.mark.usefixtures("isa")
def test_int8_is_half_a_step_off_at_most():
    given = inputs(33, 64, I8, seed=3)
    _, k, v = expected(given, 64)
    rope_and_cache(**given, num_heads=HQ, num_kv_heads=HKV)
    k_scales, v_scales = scales_of(given["k_cache"], 64)
    for t, slot in enumerate(given["slots"].tolist()):
        for head in range(HKV):
            block, offset = divmod(slot, BLOCK)
            for exact, integers, scale in (
                (k[t, head], given["k_cache"][block, head, :64, offset], k_scales[block, head, offset]),
                (v[t, head], given["v_cache"][block, head, offset], v_scales[block, head, offset]),
            ):
                assert scale == exact.abs().max() / 127
                assert (integers * scale - exact).abs().max() <= scale * 0.5001


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", [*DTYPES, I8])
@pytest.mark.parametrize("block_size", [16, 32, 48])
def test_neighbouring_slots_give_the_bits_of_single_tokens(dtype, block_size):
    """Runs of neighbours, cut by blocks, gaps, jumps back and slots that are not written, are written together."""
    slots = [*range(3, 60), 61, 62, 90, *range(70, 75), -1, -1, 76, 5 * 48, 4 * 48 + 1, 4 * 48 + 2]
    given = inputs(len(slots), 16, dtype)
    caches = [allocate_kv_cache(17, HKV, 16, block_size, dtype) for _ in range(2)]
    given["slots"] = torch.tensor(slots, dtype=torch.int32)
    rope_and_cache(**given | dict(zip(("k_cache", "v_cache"), caches[0], strict=True)), num_heads=HQ, num_kv_heads=HKV)
    for t in range(len(slots)):
        one = {name: given[name][t : t + 1] for name in ("qkv", "positions", "slots")}
        rope_and_cache(
            **one, cos_sin=given["cos_sin"], k_cache=caches[1][0], v_cache=caches[1][1], num_heads=HQ, num_kv_heads=HKV
        )
    assert all(torch.equal(together, single) for together, single in zip(*caches, strict=True))


@pytest.mark.usefixtures("isa")
def test_keys_beyond_fp16_stay_finite():
    given = inputs(5, 16, torch.float16)
    given["qkv"][3] *= 1e6
    rope_and_cache(**given, num_heads=HQ, num_kv_heads=HKV)
    assert given["k_cache"].isfinite().all()
    assert given["k_cache"].abs().max() == 65504


def test_no_tokens():
    given = inputs(0, 16, torch.float16)
    assert rope_and_cache(**given, num_heads=HQ, num_kv_heads=HKV).shape == (0, HQ * 16)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"qkv": torch.zeros(3, 7)}, r"qkv must be \[T, 160\] .* got \[3, 7\]"),
        ({"slots": torch.zeros(4, dtype=torch.int32)}, "qkv's 3 rows, got 3 and 4"),
        ({"cos_sin": table(16).bfloat16()}, "must be torch.float32, got torch.float32 and torch.bfloat16"),
        ({"v_cache": torch.zeros(8, 2, 16, 16)}, "caches must both be .*, got torch.float16 and torch.float32"),
        ({"slots": torch.zeros(3, dtype=torch.int64)}, "must be contiguous int32"),
        ({"v_cache": torch.zeros(8, 3, 16, 16).half()}, r"with 2 heads of 16 and .*; got K .* and V .8, 3,"),
    ],
)
def test_says_what_does_not_fit(change, message):
    given = inputs(3, 16, torch.float16) | change
    with pytest.raises(ValueError, match=message):
        rope_and_cache(**given, num_heads=HQ, num_kv_heads=HKV)


def test_says_which_norm_does_not_fit():
    given = inputs(3, 16, torch.float16)
    with pytest.raises(ValueError, match=r"must be \[16\] torch.float32, got \[16\] torch.bfloat16"):
        rope_and_cache(**given, num_heads=HQ, num_kv_heads=HKV, q_norm=torch.ones(16).bfloat16())
