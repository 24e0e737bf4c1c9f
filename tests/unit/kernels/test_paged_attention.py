"""paged_attention against torch's attention in fp32, and against itself: every way to batch gives the same bits."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvik.kernels import runtime
from kvik.kernels.paged_attention import allocate_kv_cache, paged_attention, reference
from kvik.kernels.paged_attention.cache import scales_of
from kvik.kernels.rope import rope_and_cache

F16, BF16, F32, I8 = torch.float16, torch.bfloat16, torch.float32, torch.int8
DTYPES = [F16, BF16, F32, I8]  # of caches
CLOSE = {"rtol": 1e-4, "atol": 2e-5}  # whatever the cache's dtype: nothing else is rounded to it


@dataclass
class Sequence:
    """One request's queries [n, Hq, D], keys and values [n, Hkv, D]; the latter hold what the cache's dtype can."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    dtype: torch.dtype
    """The cache's."""

    @staticmethod
    def random(length: int, hq: int, hkv: int, head_dim: int, dtype: torch.dtype, seed: int) -> Sequence:
        rng = torch.Generator().manual_seed(seed)
        q, k, v = (torch.randn(length, h, head_dim, generator=rng) for h in (hq, hkv, hkv))
        return Sequence(q, as_stored(k, dtype), as_stored(v, dtype), dtype)

    def __len__(self) -> int:
        return len(self.q)


def as_stored(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """x [n, H, D] as a cache of this dtype holds it."""
    if dtype is not I8:
        return x.to(dtype).float()
    scales = x.abs().amax(dim=-1, keepdim=True) / 127
    return (x / scales).round() * scales


def exact_attention(s: Sequence, scale: float, window: int) -> torch.Tensor:
    """torch's own attention over the whole sequence, in fp32: [n, Hq, D]."""
    at = torch.arange(len(s))
    mask = at <= at[:, None]
    if window:
        mask &= at > at[:, None] - window
    q, k, v = (x.transpose(0, 1)[None] for x in (s.q, s.k, s.v))
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale, enable_gqa=True)
    return out[0].transpose(0, 1)


class Cache:
    """A paged cache whose blocks are handed out in a shuffled order and whose unused slots hold NaN."""

    def __init__(self, sequences: list[Sequence], block_size: int, seed: int = 0) -> None:
        first = sequences[0]
        _, self.hkv, self.head_dim = first.k.shape
        self.hq, self.block_size = first.q.shape[1], block_size
        sizes = [-(-len(s) // block_size) for s in sequences]
        self.k, self.v = allocate_kv_cache(sum(sizes) + 1, self.hkv, self.head_dim, block_size, first.dtype)
        self._fill_with_nan()
        ids = iter((torch.randperm(sum(sizes), generator=torch.Generator().manual_seed(seed)) + 1).tolist())
        self.tables = [[next(ids) for _ in range(n)] for n in sizes]
        for sequence, blocks in zip(sequences, self.tables, strict=True):
            self._write(sequence, blocks)

    def _fill_with_nan(self) -> None:
        if self.k.dtype is not I8:
            self.k.fill_(torch.nan), self.v.fill_(torch.nan)
            return
        self.k.fill_(-128), self.v.fill_(-128)
        for scales in scales_of(self.k, self.head_dim):
            scales.fill_(torch.nan)

    def _write(self, s: Sequence, blocks: list[int]) -> None:
        qkv = torch.cat([s.q, s.k, s.v], dim=1).flatten(1)
        slots = [blocks[p // self.block_size] * self.block_size + p % self.block_size for p in range(len(s))]
        half = self.head_dim // 2
        no_rotation = torch.cat([torch.ones(1, half), torch.zeros(1, half)], dim=1)
        rope_and_cache(
            qkv, no_rotation, torch.zeros(len(s), dtype=torch.int32), torch.tensor(slots, dtype=torch.int32),
            self.k, self.v, num_heads=self.hq, num_kv_heads=self.hkv,
        )  # fmt: skip


def attend(cache: Cache, parts: list[tuple[int, Sequence, int, int]], window: int = 0, fn=paged_attention):
    """One call for the stretches (request, its sequence, first, end): one [n, Hq, D] for each."""
    width = max(len(cache.tables[r]) for r, *_ in parts) + 2
    garbage = 2**30  # a block id that must not be read
    tables = [cache.tables[r] + [garbage] * (width - len(cache.tables[r])) for r, *_ in parts]
    lengths = [end - first for *_, first, end in parts]
    out = fn(
        torch.cat([s.q[first:end] for _, s, first, end in parts]).flatten(1),
        cache.k, cache.v, torch.tensor(tables, dtype=torch.int32),
        torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32),
        torch.tensor([end for *_, end in parts], dtype=torch.int32),
        num_kv_heads=cache.hkv, head_dim=cache.head_dim, scale=cache.head_dim**-0.5, window=window,
    )  # fmt: skip
    return list(out.view(-1, cache.hq, cache.head_dim).split(lengths))


def check_whole(length: int, hq: int, hkv: int, head_dim: int, dtype: torch.dtype, block_size: int, window: int = 0):
    s = Sequence.random(length, hq, hkv, head_dim, dtype, seed=length)
    cache = Cache([s], block_size)
    (out,) = attend(cache, [(0, s, 0, length)], window)
    torch.testing.assert_close(out, exact_attention(s, head_dim**-0.5, window), **CLOSE)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [*range(1, 18), 31, 32, 33, 63, 64, 65, 511, 512, 513, 1025])
def test_lengths(length, dtype):
    check_whole(length, 4, 2, 32, dtype, block_size=16)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("head_dim", [8, 16, 32, 64, 72, 80, 96, 128, 256])
def test_head_dims(head_dim, dtype):
    check_whole(70, 3, 1, head_dim, dtype, block_size=16)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("group", range(1, 9))
def test_query_heads_per_key_head(group, dtype):
    check_whole(50, 2 * group, 2, 16, dtype, block_size=32)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("block_size", [2, 8, 16, 32, 48, 128])
def test_block_sizes(block_size, dtype):
    check_whole(150, 2, 1, 16, dtype, block_size)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("window", [1, 2, 3, 15, 16, 17, 31, 32, 33, 500, 511, 512, 513, 600, 5000])
def test_window_edges(window, dtype):
    check_whole(1040 if window > 400 else 70, 2, 1, 16, dtype, 16, window)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("window", [0, 40, 512])
@pytest.mark.parametrize("head_dim", [16, 64, 80, 128, 256])
def test_close_to_the_reference(window, dtype, head_dim):
    s = Sequence.random(600, 6, 2, head_dim, dtype, seed=3)
    cache = Cache([s], 16)
    for first, end in ((0, 37), (499, 532), (599, 600)):
        (out,) = attend(cache, [(0, s, first, end)], window)
        (want,) = attend(cache, [(0, s, first, end)], window, fn=reference.paged_attention)
        torch.testing.assert_close(out, want, **CLOSE)


def chunked(cache: Cache, request: int, s: Sequence, bounds: list[int], window: int) -> torch.Tensor:
    """The whole sequence, computed stretch by stretch."""
    return torch.cat([attend(cache, [(request, s, a, b)], window)[0] for a, b in pairwise(bounds)])


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("window", [0, 1, 21, 513])
@pytest.mark.parametrize("group", [1, 3, 8])
def test_chunks_and_decodes_give_the_same_bits(dtype, window, group):
    s = Sequence.random(1100, group, 1, 32, dtype, seed=group)
    cache = Cache([s], 16)
    (whole,) = attend(cache, [(0, s, 0, 1100)], window)
    for bounds in ([0, 1, 2, 500, 511, 512, 513, 1099, 1100], [0, 333, 1024, 1100], [0, *range(17, 1100, 97), 1100]):
        assert torch.equal(chunked(cache, 0, s, bounds, window), whole)
    for p in (0, 1, 15, 16, 31, 511, 512, 700, 1023, 1024, 1099):
        assert torch.equal(attend(cache, [(0, s, p, p + 1)], window)[0], whole[p : p + 1])


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", DTYPES)
def test_prompts_and_decodes_share_a_call(dtype):
    """Groups of 3 as in the models, blocks of 32, several partitions: each row as if it were alone, and right."""
    lengths = [1500, 18, 530, 1, 97]
    sequences = [Sequence.random(n, 9, 3, 64, dtype, seed=n) for n in lengths]
    cache = Cache(sequences, 32)
    stretches = [(0, 1499), (1, 0), (2, 300), (3, 0), (4, 96)]
    batch = [(r, sequences[r], first, lengths[r]) for r, first in stretches]
    for part, out in zip(batch, attend(cache, batch), strict=True):
        assert torch.equal(attend(cache, [part])[0], out)
        torch.testing.assert_close(out, exact_attention(part[1], 0.125, 0)[part[2] :], **CLOSE)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("window", [0, 300])
def test_threads_and_splits_give_the_same_bits(dtype, window):
    """A long sequence alone is split over the threads by partition, in a crowd it is not."""
    lengths = [2600, 40, 700, 1, 90, 33]
    sequences = [Sequence.random(n, 6, 2, 64, dtype, seed=n) for n in lengths]
    cache = Cache(sequences, 32)
    crowd = [(r, s, max(0, len(s) - 40), len(s)) for r, s in enumerate(sequences)]
    runtime.set_num_threads(1)
    alone = [attend(cache, [part], window)[0] for part in crowd]
    for threads in (1, 2, 3, 5):
        runtime.set_num_threads(threads)
        for part, expected in zip(crowd, alone, strict=True):
            assert torch.equal(attend(cache, [part], window)[0], expected)
        together = attend(cache, crowd, window)
        assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))
        last_tokens = attend(cache, [(r, s, len(s) - 1, len(s)) for r, s, *_ in crowd], window)
        assert all(torch.equal(a[-1:], b) for a, b in zip(alone, last_tokens, strict=True))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", DTYPES)
def test_blocks_give_the_same_bits_wherever_they_lie(dtype):
    s = Sequence.random(600, 4, 2, 32, dtype, seed=1)
    first, *others = [
        attend(Cache([s], block_size, seed), [(0, s, 0, 600)], window=200)[0]
        for block_size, seed in ((16, 0), (16, 1), (32, 2), (48, 3), (128, 4), (608, 5))
    ]
    assert all(torch.equal(first, other) for other in others)


LENGTHS = [5, 30, 64, 200, 530, 1030]


@pytest.mark.usefixtures("isa")
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), dtype=st.sampled_from(DTYPES), window=st.sampled_from([0, 0, 7, 100, 600]))
def test_any_batch_gives_the_same_bits(data, dtype, window):
    sequences = [Sequence.random(n, 3, 1, 16, dtype, seed=n) for n in LENGTHS]
    cache = Cache(sequences, 16)
    whole = [attend(cache, [(r, s, 0, len(s))], window)[0] for r, s in enumerate(sequences)]
    batch = []
    for request in data.draw(st.lists(st.integers(0, len(LENGTHS) - 1), min_size=1, max_size=8)):
        end = data.draw(st.integers(1, LENGTHS[request]))
        first = data.draw(st.one_of(st.just(end - 1), st.integers(0, end)))
        batch.append((request, sequences[request], first, end))
    runtime.set_num_threads(data.draw(st.integers(1, 3)))
    for (request, _, first, end), out in zip(batch, attend(cache, batch, window), strict=True):
        assert torch.equal(out, whole[request][first:end])


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("window", [0, 20])
def test_nan_of_other_requests_does_not_leak(window, dtype):
    """All that a request does not own is NaN here: other blocks, the rest of its last block, and their scales."""
    for length in range(1, 40):
        s = Sequence.random(length, 2, 1, 16, dtype, seed=length)
        (out,) = attend(Cache([s], 32), [(0, s, length - 1, length)], window)
        assert out.isfinite().all()


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("block_size", [16, 8])
def test_blocks_before_the_window_are_not_read(dtype, block_size):
    s = Sequence.random(700, 2, 1, 16, dtype, seed=2)
    cache = Cache([s], block_size)
    (want,) = attend(cache, [(0, s, 690, 700)], window=100)
    first_key = 690 - 100 + 1
    cache.tables[0][: first_key // block_size] = [2**30] * (first_key // block_size)
    assert torch.equal(attend(cache, [(0, s, 690, 700)], window=100)[0], want)


def test_a_request_without_queries_is_skipped():
    sequences = [Sequence.random(n, 4, 2, 16, F16, seed=n) for n in (5, 9)]
    cache = Cache(sequences, 16)
    first, second = attend(cache, [(0, sequences[0], 5, 5), (1, sequences[1], 0, 9)])
    assert first.shape == (0, 4, 16)
    torch.testing.assert_close(second, exact_attention(sequences[1], 0.25, 0), **CLOSE)


def test_huge_scores_stay_finite():
    s = Sequence.random(40, 2, 1, 16, F32, seed=1)
    s.q.mul_(1e4), s.k.mul_(1e4)
    (out,) = attend(Cache([s], 16), [(0, s, 0, 40)])
    torch.testing.assert_close(out, exact_attention(s, 0.25, 0), **CLOSE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": torch.zeros(1, 33)}, r"q must be \[T, Hq \* 16\]"),
        ({"seq_lens": torch.ones(2, dtype=torch.int32)}, "2 requests need 3 query starts"),
        ({"q": torch.zeros(1, 32).half()}, "q must be torch.float32"),
        (
            {"k_cache": torch.zeros(2, 2, 16, 16)},
            "the caches both one of float16, bfloat16, float32, int8, got .*torch.float32 and torch.float16",
        ),
        ({"block_tables": torch.zeros(1, 1, dtype=torch.int64)}, "contiguous int32, got torch.int64"),
        ({"k_cache": torch.zeros(2, 1, 16, 16, dtype=F16)}, r"2 heads of 16, .* got K \[2, 1,"),
        (
            {"k_cache": torch.zeros(2, 2, 16, 16, dtype=I8), "v_cache": torch.zeros(2, 2, 16, 16, dtype=I8)},
            r"2 heads of 16, and 8 rows of scales behind int8 keys, got K \[2, 2, 16, 16\]",
        ),
    ],
)
def test_says_what_does_not_fit(change, message):
    k, v = allocate_kv_cache(2, 2, 16, 16, F16)
    given = {
        "q": torch.zeros(1, 32), "k_cache": k, "v_cache": v,
        "block_tables": torch.zeros(1, 1, dtype=torch.int32), "query_start_loc": torch.tensor([0, 1]).int(),
        "seq_lens": torch.ones(1, dtype=torch.int32),
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        paged_attention(**(given | change), num_kv_heads=2, head_dim=16, scale=1.0)
