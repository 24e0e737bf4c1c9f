"""allocate_kv_cache: layouts, and memory that is taken only where it is written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kvik.kernels.paged_attention import allocate_kv_cache
from kvik.kernels.paged_attention.cache import scales_of


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_layouts():
    for dtype, rows in ((torch.float16, 64), (torch.bfloat16, 64), (torch.float32, 64), (torch.int8, 72)):
        k, v = allocate_kv_cache(3, 2, 64, 16, dtype)
        assert (list(k.shape), list(v.shape)) == ([3, 2, rows, 16], [3, 2, 16, 64])
        assert k.dtype is v.dtype is dtype
        assert not k.any()
        assert not v.any()


def test_scales_are_the_bytes_behind_the_keys_of_a_block():
    k, _ = allocate_kv_cache(3, 2, 8, 16, torch.int8)
    of_keys, of_values = scales_of(k, 8)
    of_keys[1, 1, 5], of_values[1, 1, 7] = 1.0, 2.0
    assert k.nonzero()[:, :2].unique(dim=0).tolist() == [[1, 1]]
    assert k[1, 1, 8:].reshape(-1).view(torch.float32).nonzero().flatten().tolist() == [5, 16 + 7]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_memory_is_taken_as_it_is_written():
    before = resident_bytes()
    k, v = allocate_kv_cache(16384, 8, 128, 16, torch.float16)  # 512 MiB each
    assert k.nbytes == 2**29
    assert resident_bytes() - before < 2**24
    k[:512].fill_(1), v[:512].fill_(1)  # 16 MiB each
    assert 2**25 <= resident_bytes() - before < 2**25 + 2**24


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((1, 1, 16, 16, torch.float64), "one of float16, bfloat16, float32, int8, got torch.float64"),
        ((1, 1, 18, 16, torch.int8), "head_dim a multiple of 4, got .*head_dim=18"),
        ((0, 1, 16, 16, torch.float32), "num_blocks=0"),
        ((1, 1, 15, 16, torch.float32), "head_dim=15"),
    ],
)
def test_says_what_has_no_layout(sizes, message):
    with pytest.raises(ValueError, match=message):
        allocate_kv_cache(*sizes)
