"""The pool: order of reuse, eviction, duplicates, reset."""

from __future__ import annotations

import pytest

from kvik.blocks.integrity import find_disagreements
from kvik.blocks.pool import BlockPool, KVCacheBlock


def ids(blocks: list[KVCacheBlock]) -> list[int]:
    return [block.block_id for block in blocks]


def test_the_null_block_is_never_handed_out() -> None:
    pool = BlockPool(3)
    assert ids(pool.take(3)) == [1, 2, 3]
    assert pool.usage == 1.0
    with pytest.raises(IndexError):
        pool.take(1)


def test_blocks_without_digest_are_reused_first_then_the_longest_free() -> None:
    pool = BlockPool(4)
    blocks = pool.take(4)
    pool.remember(blocks[0], b"a")
    pool.remember(blocks[1], b"b")
    pool.release([blocks[1], blocks[0], blocks[2], blocks[3]])
    assert ids(list(pool.free_queue)) == [4, 3, 2, 1]


def test_a_free_block_is_found_until_it_is_handed_out() -> None:
    pool = BlockPool(2)
    first, second = pool.take(2)
    pool.remember(first, b"a")
    pool.remember(second, b"b")
    pool.release([second, first])
    assert ids(pool.find([b"a", b"b"])) == [1, 2]
    assert ids(pool.take(1)) == [2]
    assert ids(pool.find([b"a", b"b"])) == [1]
    assert pool.find([b"b", b"a"]) == []


def test_touch_takes_a_block_out_of_the_free_list() -> None:
    pool = BlockPool(2)
    (block,) = pool.take(1)
    pool.remember(block, b"a")
    pool.release([block])
    pool.touch([block])
    pool.touch([block])
    assert (block.ref_cnt, pool.num_free_blocks) == (2, 1)
    pool.release([block])
    assert pool.num_free_blocks == 1
    assert find_disagreements(pool, [[block]]) == []


def test_a_duplicate_takes_over_when_the_first_is_evicted() -> None:
    pool = BlockPool(3)
    blocks = pool.take(3)
    for block in blocks:
        pool.remember(block, b"same")
    assert find_disagreements(pool, [blocks]) == []
    pool.forget(blocks[1])
    pool.forget(blocks[0])
    assert pool.find([b"same"]) == [blocks[2]]
    assert find_disagreements(pool, [blocks]) == []
    pool.forget(blocks[2])
    assert pool.find([b"same"]) == []
    assert (pool.cached, pool.duplicates) == ({}, {})


def test_reset_only_when_nothing_is_held() -> None:
    pool = BlockPool(2)
    (block,) = pool.take(1)
    pool.remember(block, b"a")
    assert not pool.reset()
    assert pool.find([b"a"]) == [block]
    pool.release([block])
    assert pool.reset()
    assert pool.find([b"a"]) == []
    assert find_disagreements(pool, []) == []


def test_a_pool_without_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 usable block, got 0"):
        BlockPool(0)


def test_disagreements_are_told_with_their_numbers() -> None:
    pool = BlockPool(3)
    first, second = pool.take(2)
    assert find_disagreements(pool, [[first]]) == ["block 2 has ref_cnt 1, but 0 tables hold it"]
    second.ref_cnt = 0
    assert "1 blocks are in the free list, 2 of 3 are unheld (differing ids: [2])" in find_disagreements(
        pool, [[first]]
    )
    second.ref_cnt = 1
    second.block_hash = b"x"
    assert find_disagreements(pool, [[first, second]]) == ["0 blocks are in the prefix index, 1 have a digest"]
