"""The attention backends: which one is chosen, and that each computes what `paged_attention` is to compute.

The libraries cannot run here. Fakes stand in for them that take the documented arguments, and compute as documented.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from kvik.kernels.paged_attention import allocate_kv_cache, backends, reference
from kvik.kernels.paged_attention.backends import Work, choose, describe
from kvik.kernels.paged_attention.cache import scales_of
from kvik.kernels.paged_attention.flash_attention import FlashAttention2, FlashAttention3
from kvik.kernels.paged_attention.flash_infer import FlashInfer
from kvik.kernels.paged_attention.sdpa import torch_sdpa

BF16, F16, F32, F8, I8 = torch.bfloat16, torch.float16, torch.float32, torch.float8_e4m3fn, torch.int8
GPU = Work(on_gpu=True, dtype=BF16, cache_dtype=BF16, head_dim=128, block_size=16)
ON_CPU = Work(on_gpu=False, dtype=F32, cache_dtype=F16, head_dim=64, block_size=16)


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    """Modules that are "installed"; those of the libraries that really are, are not."""
    there: dict[str, ModuleType] = {}
    monkeypatch.setattr(backends.importlib.util, "find_spec", there.get)
    for name in ("flash_attn_interface", "flash_attn", "flashinfer"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield there
    for name in there:
        sys.modules.pop(name, None)


def install(packages: dict[str, ModuleType], name: str, **contents: Any) -> None:
    module = ModuleType(name)
    module.__dict__.update(contents)
    packages[name] = sys.modules[name] = module


def flash_attn_with_kvcache(
    q: Tensor, k_cache: Tensor, v_cache: Tensor, *, cache_seqlens: Tensor, page_table: Tensor, cu_seqlens_q: Tensor,
    max_seqlen_q: int, softmax_scale: float, causal: bool, window_size: tuple[int, int],
) -> Tensor:  # fmt: skip
    """Of flash-attn 3, as it documents itself: pages of any size, rows without keys are zeros."""
    assert max_seqlen_q >= cu_seqlens_q.diff().max()
    assert k_cache.stride(-1) == v_cache.stride(-1) == 1
    return _paged(q, k_cache, v_cache, cu_seqlens_q, cache_seqlens, page_table, softmax_scale, causal, window_size)


def flash_attn_varlen_func(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens_q: Tensor, cu_seqlens_k: Tensor, max_seqlen_q: int, max_seqlen_k: int,
    *, softmax_scale: float, causal: bool, window_size: tuple[int, int], block_table: Tensor,
) -> Tensor:  # fmt: skip
    """Of flash-attn 2, as it documents itself."""
    lengths = cu_seqlens_k.diff()
    assert cu_seqlens_k.dtype is torch.int32
    assert max_seqlen_q >= cu_seqlens_q.diff().max()
    assert max_seqlen_k >= lengths.max()
    return _paged(q, k, v, cu_seqlens_q, lengths, block_table, softmax_scale, causal, window_size)


class BatchPrefillWithPagedKVCacheWrapper:
    """Of FlashInfer, as it documents itself; counts its plans."""

    num_plans = 0

    def __init__(self, float_workspace_buffer: Tensor, kv_layout: str) -> None:
        assert float_workspace_buffer.dtype is torch.uint8
        assert kv_layout == "NHD"

    def plan(
        self, qo_indptr: Tensor, paged_kv_indptr: Tensor, paged_kv_indices: Tensor, paged_kv_last_page_len: Tensor,
        num_qo_heads: int, num_kv_heads: int, head_dim_qk: int, page_size: int, *, causal: bool, sm_scale: float,
        window_left: int, q_data_type: torch.dtype, kv_data_type: torch.dtype,
    ) -> None:  # fmt: skip
        assert paged_kv_indptr.dtype is paged_kv_indices.dtype is paged_kv_last_page_len.dtype is torch.int32
        assert paged_kv_indptr[-1] == len(paged_kv_indices)
        type(self).num_plans += 1
        pages = paged_kv_indptr.diff()
        self._lengths = torch.where(pages > 0, (pages - 1) * page_size + paged_kv_last_page_len, 0)
        self._table = torch.zeros(len(pages), max(int(pages.max()), 1), dtype=torch.int32)
        for b, (start, count) in enumerate(zip(paged_kv_indptr.tolist(), pages.tolist(), strict=False)):
            self._table[b, :count] = paged_kv_indices[start : start + count]
        self._starts, self._scale, self._causal, self._window = qo_indptr.clone(), sm_scale, causal, (window_left, 0)
        self._shape = (num_qo_heads, head_dim_qk, num_kv_heads, page_size, q_data_type, kv_data_type)

    def run(self, q: Tensor, paged_kv_cache: tuple[Tensor, Tensor], k_scale: float = 1, v_scale: float = 1) -> Tensor:
        k, v = paged_kv_cache
        assert self._shape == (*q.shape[1:], k.shape[2], k.shape[1], q.dtype, k.dtype)
        window = self._window if self._window[0] >= 0 else (-1, -1)
        return v_scale * _paged(
            q, k, v, self._starts, self._lengths, self._table, self._scale * k_scale, self._causal, window
        )


def _paged(
    q: Tensor, k: Tensor, v: Tensor, starts: Tensor, lengths: Tensor, table: Tensor, scale: float, causal: bool,
    window: tuple[int, int],
) -> Tensor:  # fmt: skip
    """q [T, Hq, D], k and v [pages, page, Hkv, D]; the mask is aligned to the last query and the last key."""
    assert causal
    out = torch.zeros_like(q)
    page = k.shape[1]
    for b, seq_len in enumerate(lengths.tolist()):
        rows = slice(int(starts[b]), int(starts[b + 1]))
        if not seq_len or rows.start == rows.stop:
            continue
        pages = table[b, : -(-seq_len // page)].long()
        keys, values = (x[pages].flatten(0, 1)[:seq_len].to(q.dtype).transpose(0, 1)[None] for x in (k, v))
        at = torch.arange(seq_len - (rows.stop - rows.start), seq_len)[:, None]
        mask = torch.arange(seq_len) <= at
        if window[0] >= 0:
            mask &= torch.arange(seq_len) >= at - window[0]
        found = scaled_dot_product_attention(
            q[rows].transpose(0, 1)[None], keys, values, attn_mask=mask, scale=scale, enable_gqa=True
        )
        out[rows] = found[0].transpose(0, 1)
    return out


def given(shapes: list[tuple[int, int]], *, dtype: torch.dtype = F32, seed: int = 0) -> dict[str, Any]:
    """Requests of (queries, tokens in all), in a cache laid out as a GPU's."""
    rng = torch.Generator().manual_seed(seed)
    k, v = allocate_kv_cache(12, 2, 16, 16, dtype, device=torch.device("cpu"))
    for cached in (k, v):
        cached.copy_(torch.randn(cached.shape, generator=rng))
    starts = torch.tensor([0, *[n for n, _ in shapes]]).cumsum(0).int()
    tables = torch.randperm(12, generator=rng)[: 4 * len(shapes)].view(len(shapes), 4).int()
    return {
        "q": torch.randn(int(starts[-1]), 64, generator=rng), "k_cache": k, "v_cache": v, "block_tables": tables,
        "query_start_loc": starts, "seq_lens": torch.tensor([n for _, n in shapes]).int(), "num_kv_heads": 2,
        "head_dim": 16, "scale": 0.25,
    }  # fmt: skip


MIXED = [(5, 5), (1, 40), (20, 33)]
PADDED = [(1, 17), (1, 64), (1, 0)]


@pytest.mark.parametrize("window", [0, 1, 7])
@pytest.mark.parametrize("shapes", [MIXED, PADDED])
@pytest.mark.parametrize("name", ["TORCH_SDPA", "FLASH_ATTN 3", "FLASH_ATTN 2", "FLASHINFER"])
def test_each_computes_the_reference(
    name: str, shapes: list[tuple[int, int]], window: int, packages: dict[str, ModuleType]
) -> None:
    install(packages, "flash_attn_interface", flash_attn_with_kvcache=flash_attn_with_kvcache)
    install(packages, "flash_attn", flash_attn_varlen_func=flash_attn_varlen_func)
    install(packages, "flashinfer", BatchPrefillWithPagedKVCacheWrapper=BatchPrefillWithPagedKVCacheWrapper)
    made = {
        "TORCH_SDPA": lambda: torch_sdpa, "FLASH_ATTN 3": FlashAttention3, "FLASH_ATTN 2": FlashAttention2,
        "FLASHINFER": FlashInfer,
    }  # fmt: skip
    attend = made[name]()
    for max_query_len in (None, 20):
        arguments = given(shapes) | {"window": window, "k_scale": 0.5, "v_scale": 2.0}
        found = attend(**arguments, max_query_len=max_query_len)
        torch.testing.assert_close(found, reference.paged_attention(**arguments), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [F16, F32, I8])
def test_torch_sdpa_on_the_caches_of_a_cpu(dtype: torch.dtype) -> None:
    k, v = allocate_kv_cache(12, 2, 16, 16, dtype)
    arguments = given(MIXED) | {"k_cache": k, "v_cache": v}
    for cached in (k, v):
        cached.copy_((torch.randn(cached.shape) * 4).to(dtype))
    if dtype is I8:
        for scales in scales_of(k, 16):
            scales.fill_(0.1)
    torch.testing.assert_close(torch_sdpa(**arguments), reference.paged_attention(**arguments), rtol=1e-4, atol=1e-5)


def test_torch_sdpa_in_the_models_dtype() -> None:
    arguments = given(MIXED, dtype=BF16)
    found = torch_sdpa(**(arguments | {"q": arguments["q"].to(BF16)}))
    assert found.dtype is BF16
    torch.testing.assert_close(found.float(), reference.paged_attention(**arguments), rtol=0.02, atol=0.02)


def test_flashinfer_plans_once_a_batch_and_kind_of_layer(packages: dict[str, ModuleType]) -> None:
    class Wrapper(BatchPrefillWithPagedKVCacheWrapper):
        num_plans = 0

    install(packages, "flashinfer", BatchPrefillWithPagedKVCacheWrapper=Wrapper)
    attend = FlashInfer()
    layers = [(given(MIXED, seed=i), window) for i, window in enumerate((0, 0, 7, 0, 7))]
    for batch, shapes in enumerate((MIXED, [(2, 9), (1, 3), (1, 64)], MIXED)):
        for arguments, window in layers:
            now = given(shapes, seed=9) | {name: arguments[name] for name in ("k_cache", "v_cache")}
            found = attend(**now, window=window)
            torch.testing.assert_close(found, reference.paged_attention(**now, window=window), rtol=1e-4, atol=1e-5)
        assert Wrapper.num_plans == 2 * (batch + 1)


# --- the choice ----------------------------------------------------------------------------------------


def test_our_own_unless_asked(packages: dict[str, ModuleType]) -> None:
    install(packages, "flash_attn_interface")
    install(packages, "flashinfer")
    gpu = choose(None, GPU)
    assert (gpu.name, gpu.is_capturable) == ("TRITON_ATTN", True)
    potential = "TRITON_ATTN, FLASH_ATTN, FLASHINFER, TORCH_SDPA"
    assert describe(gpu) == f"Using TRITON_ATTN attention backend out of potential backends: {potential}."
    cpu = choose(None, ON_CPU)
    assert describe(cpu) == "Using CPU_ATTN attention backend out of potential backends: CPU_ATTN, TORCH_SDPA."
    assert cpu.attend is gpu.attend is choose("CPU_ATTN", ON_CPU).attend


def test_as_asked(packages: dict[str, ModuleType]) -> None:
    install(packages, "flash_attn")
    install(packages, "flashinfer")
    assert isinstance(choose("FLASH_ATTN", replace(GPU, block_size=256)).attend, FlashAttention2)
    install(packages, "flash_attn_interface")
    assert isinstance(choose("FLASH_ATTN", GPU).attend, FlashAttention3)
    found = choose("FLASHINFER", GPU)
    assert isinstance(found.attend, FlashInfer)
    assert not found.is_capturable
    for work in (GPU, ON_CPU):
        assert choose("TORCH_SDPA", work).attend is torch_sdpa
        assert not choose("TORCH_SDPA", work).is_capturable


@pytest.mark.parametrize(
    ("asked", "work", "message"),
    [
        ("FLASH_ATTN", GPU, "needs the package flash-attn, which is not installed: install it, or take TRITON_ATTN"),
        ("FLASHINFER", GPU, "needs the package flashinfer-python, which is not installed"),
        ("TRITON_ATTN", ON_CPU, "computes on a GPU, and this engine on the CPU: take CPU_ATTN or TORCH_SDPA"),
        ("FLASHINFER", ON_CPU, "computes on a GPU"),
        ("CPU_ATTN", GPU, "computes on the CPU, and this engine on a GPU: take TRITON_ATTN"),
        ("FLEX", GPU, "there is no attention backend FLEX"),
    ],
)
def test_says_why_not(asked: str, work: Work, message: str, packages: dict[str, ModuleType]) -> None:
    with pytest.raises(ValueError, match=message):
        choose(asked, work)


@pytest.mark.parametrize("asked", [None, "TORCH_SDPA"])
def test_fp8_on_a_gpu_that_cannot_convert_it(asked: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    work = replace(GPU, cache_dtype=F8)
    monkeypatch.setattr(backends.launch, "capability", lambda: (8, 0))
    with pytest.raises(ValueError, match=r"fp8 \(e4m3\) need a GPU of sm_89 or above, this one is sm_80: take"):
        choose(asked, work)
    assert choose(asked, replace(work, cache_dtype=torch.float8_e5m2)).name == (asked or "TRITON_ATTN")
    monkeypatch.setattr(backends.launch, "capability", lambda: (8, 9))
    assert choose(asked, work).name == (asked or "TRITON_ATTN")


@pytest.mark.parametrize(
    ("asked", "change", "message"),
    [
        ("FLASH_ATTN", {}, "KV blocks of multiples of 256 tokens, not 16: start with --block-size 256"),
        ("FLASH_ATTN", {"cache_dtype": F8}, "keys and values of bfloat16, as the model is, not float8_e4m3fn"),
        ("FLASH_ATTN", {"head_dim": 100}, "a multiple of 8, at most 256, dimensions, this model's have 100"),
        ("FLASHINFER", {"head_dim": 80}, "heads of 64, 128 or 256 dimensions, this model's have 80"),
        ("FLASHINFER", {"dtype": F32}, "in float16 or bfloat16, this model in float32"),
    ],
)
def test_says_what_a_library_cannot(
    asked: str, change: dict[str, Any], message: str, packages: dict[str, ModuleType]
) -> None:
    install(packages, "flash_attn")
    install(packages, "flashinfer")
    with pytest.raises(ValueError, match=message):
        choose(asked, replace(GPU, **change))
