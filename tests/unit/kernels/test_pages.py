"""Pages given back: the memory goes, the address and the neighbours stay."""

from __future__ import annotations

import mmap

import pytest
import torch

from kvik.kernels.paged_attention import allocate_kv_cache
from kvik.kernels.pages import give_back_pages
from kvik.platforms.cpu import resident_memory_bytes

MIB = 1 << 20


def test_memory_goes_and_reads_as_zeros() -> None:
    keys, _ = allocate_kv_cache(1024, 4, 64, 16, torch.float16)
    keys.fill_(1)
    address, full = keys.data_ptr(), resident_memory_bytes()
    given = give_back_pages(keys)
    assert keys.nbytes - 2 * mmap.PAGESIZE <= given <= keys.nbytes
    assert full - resident_memory_bytes() > given - 2 * MIB
    assert keys.data_ptr() == address
    assert int(keys.count_nonzero()) == 0
    keys.fill_(2)
    assert float(keys.sum(dtype=torch.float64)) == 2 * keys.numel()


def test_neighbours_on_shared_pages_stay() -> None:
    whole = torch.ones(4 * mmap.PAGESIZE, dtype=torch.uint8)
    page = mmap.PAGESIZE
    inner = whole[100 : 3 * page + 50]
    given = give_back_pages(inner)
    assert given in (2 * page, 3 * page)
    assert int(whole[:100].sum()) == 100
    assert int(whole[3 * page + 50 :].sum()) == page - 50
    assert int((whole == 0).sum()) == given


def test_small_tensors_have_no_pages_of_their_own() -> None:
    small = torch.ones(100)
    assert give_back_pages(small) == 0
    assert float(small.sum()) == 100


def test_tensors_with_gaps_are_refused() -> None:
    with pytest.raises(ValueError, match="contiguous"):
        give_back_pages(torch.ones(64, 64).T)
