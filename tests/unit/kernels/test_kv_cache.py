"""allocate_kv_cache: layouts, and memory that is taken only where it is written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kvik.kernels.paged_attention import allocate_kv_cache


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_layouts():
    for dtype in (torch.float16, torch.float32):
        k, v = allocate_kv_cache(3, 2, 64, 16, dtype)
        assert (list(k.shape), list(v.shape)) == ([3, 2, 64, 16], [3, 2, 16, 64])
        assert k.dtype is v.dtype is dtype
        assert not k.any()
        assert not v.any()


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
        ((1, 1, 16, 16, torch.bfloat16), "float16 or float32, got torch.bfloat16"),
        ((0, 1, 16, 16, torch.float32), "num_blocks=0"),
        ((1, 1, 15, 16, torch.float32), "head_dim=15"),
    ],
)
def test_says_what_has_no_layout(sizes, message):
    with pytest.raises(ValueError, match=message):
        allocate_kv_cache(*sizes)
