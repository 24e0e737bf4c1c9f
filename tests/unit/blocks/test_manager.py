"""Block tables: room, hits, refusals that change nothing."""

from __future__ import annotations

import pytest

from kvik.blocks import KVCacheManager, SequenceBlocks
from kvik.errors import EngineError


def fill(manager: KVCacheManager, token_ids: list[int], salt: str | None = None) -> SequenceBlocks:
    """A sequence whose tokens are all computed."""
    sequence = SequenceBlocks(salt)
    assert manager.allocate(sequence, len(token_ids), hits=manager.find_cached(sequence, token_ids)) is not None
    manager.cache_full_blocks(sequence, token_ids, len(token_ids))
    return sequence


def test_tables_grow_by_what_is_missing() -> None:
    manager = KVCacheManager(4, 4)
    sequence = SequenceBlocks()
    assert manager.allocate(sequence, 3) == [1]
    assert manager.grow(sequence, 4) == []
    assert manager.grow(sequence, 9) == [2, 3]
    assert manager.usage == 0.75


def test_a_refusal_changes_nothing() -> None:
    manager = KVCacheManager(3, 4)
    held = fill(manager, list(range(8)))
    other = SequenceBlocks()
    hits = manager.find_cached(other, list(range(12)))
    assert len(hits) == 2
    assert manager.allocate(other, 17, hits=hits) is None
    assert manager.allocate(other, 9, hits=hits, num_reserved_tokens=17) is None
    assert manager.allocate(other, 9, hits=hits, num_kept_free=1) is None
    assert manager.grow(held, 17) is None
    manager.check_integrity([held])
    assert manager.allocate(other, 9, hits=hits) == [1, 2, 3]
    manager.check_integrity([held, other])


def test_free_hits_count_as_wanted() -> None:
    manager = KVCacheManager(3, 4)
    manager.free(fill(manager, list(range(8))))
    other = SequenceBlocks()
    hits = manager.find_cached(other, list(range(16)))
    assert manager.allocate(other, 16, hits=hits) is None  # 4 blocks, of which 2 are hits and 1 is free beside them
    assert manager.allocate(other, 12, hits=hits) == [1, 2, 3]


def test_the_tail_of_a_freed_sequence_is_evicted_first() -> None:
    manager = KVCacheManager(3, 2)
    manager.free(fill(manager, [1, 2, 3, 4, 5, 6]))
    fill(manager, [9])
    assert len(manager.find_cached(SequenceBlocks(), [1, 2, 3, 4, 5, 6, 7])) == 2


def test_the_last_token_is_never_a_hit() -> None:
    manager = KVCacheManager(4, 4)
    fill(manager, list(range(8)))
    assert len(manager.find_cached(SequenceBlocks(), list(range(8)))) == 1
    assert len(manager.find_cached(SequenceBlocks(), list(range(9)))) == 2


def test_salt_is_part_of_every_block() -> None:
    manager = KVCacheManager(9, 2)
    fill(manager, [1, 2, 3, 4, 5], salt="a")
    assert manager.find_cached(SequenceBlocks("b"), [1, 2, 3, 4, 5]) == []
    assert len(manager.find_cached(SequenceBlocks("a"), [1, 2, 3, 4, 5])) == 2


def test_uncached_blocks_are_not_found() -> None:
    manager = KVCacheManager(4, 2)
    sequence = fill(manager, [1, 2, 3, 4, 5, 6, 7])
    manager.uncache(sequence, 3)
    assert len(manager.find_cached(SequenceBlocks(), [1, 2, 3, 4, 5])) == 1
    manager.check_integrity([sequence])
    manager.cache_full_blocks(sequence, [1, 2, 3, 4, 5, 6, 7], 7)
    assert len(manager.find_cached(SequenceBlocks(), [1, 2, 3, 4, 5])) == 2


def test_without_prefix_caching_nothing_is_found() -> None:
    manager = KVCacheManager(4, 2, enable_prefix_caching=False)
    manager.free(fill(manager, [1, 2, 3, 4]))
    assert manager.find_cached(SequenceBlocks(), [1, 2, 3]) == []
    assert manager.reset_prefix_cache()


def test_a_leak_is_told() -> None:
    manager = KVCacheManager(4, 2)
    fill(manager, [1, 2, 3])
    with pytest.raises(EngineError, match="block 1 has ref_cnt 1, but 0 tables hold it; block 2"):
        manager.check_integrity([])
