"""The Triton kernels of attention and of what is written before it, in the interpreter, against plain torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvik.kernels.paged_attention import allocate_kv_cache, paged_attention
from kvik.kernels.paged_attention import reference as attention_reference
from kvik.kernels.rope import reference as rope_reference
from kvik.kernels.rope import rope_and_cache
from support.attention_requests import attention_requests
from support.triton_interpreter import standing_in_for_gpu

F8, E5M2, BF16, F16, F32 = torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16, torch.float16, torch.float32
CPU = torch.device("cpu")
TOLERANCE = {F32: 2e-5, F16: 2e-3, BF16: 2e-2}


@pytest.fixture(autouse=True)
def gpu() -> Iterator[None]:
    with standing_in_for_gpu():
        yield


@pytest.fixture
def few_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """No keys are split: fewer programs for the interpreter."""
    split_into(1, monkeypatch)


def split_into(num: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import kvik.kernels.paged_attention.triton as kernels

    monkeypatch.setattr(kernels, "splits_for", lambda num_programs, wanted: num)


def check(arguments: dict[str, Any], max_query_len: int | None = None, **more: Any) -> None:
    found = paged_attention(**arguments, max_query_len=max_query_len, **more)
    wanted = attention_reference.paged_attention(**(arguments | {"q": arguments["q"].float()}), **more)
    tolerance = TOLERANCE[arguments["q"].dtype]
    assert found.dtype is arguments["q"].dtype
    torch.testing.assert_close(found.float(), wanted, rtol=tolerance, atol=tolerance)


PROMPTS = [(5, 5), (1, 40), (20, 33), (1, 1)]


@pytest.mark.parametrize("dtype", [F32, F16, BF16])
def test_prompts_and_decoding_requests_together(dtype: torch.dtype, few_programs: None) -> None:
    check(attention_requests(PROMPTS, dtype=dtype))


@pytest.mark.parametrize("num_splits", [2, 8])
def test_keys_split_among_programs(num_splits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    split_into(num_splits, monkeypatch)
    check(attention_requests([(1, 300), (1, 3), (1, 64)]), 1)
    check(attention_requests([(3, 200), (1, 150)]))


@pytest.mark.parametrize(("hq", "hkv"), [(1, 1), (3, 1), (9, 3), (8, 1), (20, 1)])
def test_groups_of_heads(hq: int, hkv: int, few_programs: None) -> None:
    check(attention_requests([(1, 20), (1, 7)], hq=hq, hkv=hkv), 1)
    check(attention_requests([(4, 20), (1, 7)], hq=hq, hkv=hkv))


@pytest.mark.parametrize("head_dim", [8, 64, 80, 128, 256])
def test_sizes_of_heads(head_dim: int, few_programs: None) -> None:
    check(attention_requests([(3, 20), (1, 37)], head_dim=head_dim, hq=2, hkv=1))


@pytest.mark.parametrize("block", [16, 32, 64])
@pytest.mark.parametrize("window", [1, 5, 70])
def test_a_window_of_keys(window: int, block: int, few_programs: None) -> None:
    check(attention_requests([(6, 150), (1, 90), (9, 9)], block=block), window=window)
    check(attention_requests([(1, 150), (1, 3)], block=block), 1, window=window)


def test_keys_and_values_of_fp8(few_programs: None) -> None:
    check(attention_requests(PROMPTS, dtype=F32, cache=F8), k_scale=0.5, v_scale=3.0)
    check(attention_requests([(1, 70)], dtype=BF16, cache=F8), 1, k_scale=2.0, v_scale=0.25)


def test_requests_of_no_tokens_get_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    """Padding behind a decoding batch, as graphs have it."""
    for num_splits in (1, 4):
        split_into(num_splits, monkeypatch)
        arguments = attention_requests([(1, 20), (1, 0), (1, 0)])
        arguments["block_tables"][1:] = 10**6  # not to be read
        out = paged_attention(**arguments, max_query_len=1)
        assert out[1:].count_nonzero() == 0
        assert out[0].isfinite().all()


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_batch(data: st.DataObject, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests of any lengths, in whatever cache: close to plain torch."""
    split_into(data.draw(st.sampled_from([1, 1, 3])), monkeypatch)
    shapes = []
    for length in data.draw(st.lists(st.integers(0, 150), min_size=1, max_size=3)):
        shapes.append((data.draw(st.integers(1, max(1, min(length, 40)))), length))
    head_dim, block = data.draw(st.sampled_from([16, 96])), data.draw(st.sampled_from([16, 32]))
    heads = data.draw(st.sampled_from([{"hq": 3, "hkv": 1}, {"hq": 10, "hkv": 2}]))
    cache = data.draw(st.sampled_from([F32, F16, F8, E5M2]))
    window = data.draw(st.sampled_from([0, 3, 64]))
    check(attention_requests(shapes, head_dim=head_dim, block=block, cache=cache, **heads), window=window, k_scale=0.5)


def test_a_prompt_of_many_tiles_in_the_middle(few_programs: None) -> None:
    """Groups that do not fill a tile: 42 queries of 3 heads to 128 rows."""
    check(attention_requests([(1, 9), (150, 160), (1, 130)], hq=3, hkv=1))


def test_rows_and_caches_of_any_strides(few_programs: None) -> None:
    arguments = attention_requests(PROMPTS)
    wanted = paged_attention(**arguments)
    q = arguments["q"]
    caches = {name: arguments[name].contiguous() for name in ("k_cache", "v_cache")}
    assert torch.equal(paged_attention(**(arguments | caches)), wanted)
    within = torch.cat([q, q], 1)[:, : q.shape[1]]
    assert torch.equal(paged_attention(**(arguments | {"q": within})), wanted)
    assert torch.equal(paged_attention(**(arguments | {"q": q.T.contiguous().T})), wanted)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"q": torch.zeros(2, 64).double()},
            "q must be one of float16, bfloat16, float32 and .*e4m3fn, .*got .*float64",
        ),
        ({"k_cache": torch.zeros(2, 2, 24, 16).char(), "v_cache": torch.zeros(2, 2, 16, 16).char()}, "torch.int8"),
        ({"v_cache": torch.zeros(2, 3, 16, 16)}, r"must have 2 heads of 16, .* got K .*, V \[2, 3, 16, 16\]"),
        ({"block_tables": torch.zeros(4, 2).int().T[:1]}, "stride 1 in their last"),
        ({"seq_lens": torch.zeros(1).long()}, "must be contiguous int32, got .*int64"),
    ],
)
def test_says_what_does_not_fit_a_gpu(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paged_attention(**(attention_requests([(2, 4)]) | change))


def test_caches_of_a_gpu() -> None:
    for dtype in (F16, BF16, F32, F8):
        k, v = allocate_kv_cache(3, 2, 80, 32, dtype, device=CPU)
        assert (list(k.shape), list(v.shape), k.dtype) == ([3, 2, 80, 32], [3, 2, 32, 80], dtype)
        assert k.permute(0, 3, 1, 2).is_contiguous()
        assert v.permute(0, 2, 1, 3).is_contiguous()
        assert not k.float().any()
        assert not v.float().any()
    with pytest.raises(ValueError, match=r"on a GPU is one of .*, float32, float8_e4m3fn, float8_e5m2, got torch.int8"):
        allocate_kv_cache(3, 2, 80, 32, torch.int8, device=CPU)
    with pytest.raises(ValueError, match=r"is one of .*, float32, int8, got torch.float8_e4m3fn"):
        allocate_kv_cache(3, 2, 80, 32, F8)


def test_a_batch_of_nothing() -> None:
    arguments = attention_requests([(1, 4)])
    out = paged_attention(**(arguments | {"q": arguments["q"][:0], "query_start_loc": torch.zeros(2).int()}))
    assert out.shape == (0, 64)


def rope_given(head_dim: int, dtype: torch.dtype, cache: torch.dtype, num_tokens: int = 7) -> dict[str, Any]:
    rng = torch.Generator().manual_seed(head_dim)
    angles = torch.arange(50)[:, None] * (100.0 ** (-torch.arange(0, head_dim, 2) / head_dim))
    k, v = allocate_kv_cache(4, 2, head_dim, 16, cache, device=CPU)
    slots = torch.randperm(64, generator=rng)[:num_tokens].int()
    slots[2] = -1
    return {
        "qkv": (torch.randn(num_tokens, 7 * head_dim, generator=rng) * 4).to(dtype),
        "cos_sin": torch.cat([angles.cos(), angles.sin()], 1),
        "positions": torch.randint(0, 50, (num_tokens,), generator=rng).int(), "slots": slots, "k_cache": k,
        "v_cache": v, "num_heads": 3, "num_kv_heads": 2,
    }  # fmt: skip


@pytest.mark.parametrize("norms", [(), ("q_norm",), ("q_norm", "k_norm")])
@pytest.mark.parametrize("unit_offset", [False, True])
@pytest.mark.parametrize(
    ("dtype", "cache"), [(F32, F32), (F32, F16), (BF16, BF16), (BF16, F8), (BF16, E5M2), (F16, F16)]
)
def test_rotation_and_writing(
    dtype: torch.dtype, cache: torch.dtype, unit_offset: bool, norms: tuple[str, ...]
) -> None:
    for head_dim in (16, 80):
        arguments = rope_given(head_dim, dtype, cache)
        weights = {name: torch.rand(head_dim).to(dtype) for name in norms}
        more = {"eps": 1e-5, "unit_offset": unit_offset, "k_scale": 0.5, "v_scale": 2.0} | weights
        q = rope_and_cache(**arguments, **more)
        caches = [arguments[name].float().clone() for name in ("k_cache", "v_cache")]
        for name in ("k_cache", "v_cache"):
            arguments[name].zero_()
        wanted = rope_reference.rope_and_cache(**arguments, **more)
        tolerance = {"rtol": 2**-6, "atol": 2**-6} if dtype is BF16 else {"rtol": 2e-3, "atol": 2e-3}
        torch.testing.assert_close(q, wanted, **tolerance)
        for found, name in zip(caches, ("k_cache", "v_cache"), strict=True):
            one_step = {"rtol": 0.13, "atol": 2**-6} if cache is F8 else tolerance
            torch.testing.assert_close(found, arguments[name].float(), **one_step)


@pytest.mark.parametrize(("cache", "end"), [(F16, 65504.0), (F8, 448.0), (E5M2, 57344.0)])
def test_what_a_cache_cannot_hold_is_its_largest_number(cache: torch.dtype, end: float) -> None:
    arguments = rope_given(16, F32, cache)
    arguments["qkv"] *= 1e6
    rope_and_cache(**arguments)
    assert arguments["v_cache"].float().abs().max() == end
    assert arguments["v_cache"].float().isfinite().all()


def test_rotating_what_does_not_lie_together() -> None:
    arguments = rope_given(16, F32, F32)
    wanted = rope_and_cache(**arguments)
    scattered = arguments | {"qkv": arguments["qkv"].T.contiguous().T}
    assert torch.equal(rope_and_cache(**scattered), wanted)


def test_nan_is_stored_as_nan() -> None:
    for cache in (F16, F8):
        arguments = rope_given(16, F32, cache)
        arguments["qkv"][0, -1] = torch.nan
        rope_and_cache(**arguments)
        assert arguments["v_cache"].float().isnan().sum() == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"qkv": torch.zeros(7, 112).double()}, "qkv must be one of float16, bfloat16, float32 and cos_sin"),
        ({"k_cache": torch.zeros(4, 2, 24, 16).char(), "v_cache": torch.zeros(4, 2, 16, 16).char()}, "got torch.int8"),
    ],
)
def test_says_what_a_gpu_cannot_rotate(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rope_and_cache(**(rope_given(16, F32, F32) | change))
