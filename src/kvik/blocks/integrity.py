"""The invariants of the pool, checked from outside: reads everything, writes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from kvik.blocks.free_queue import KVCacheBlock
from kvik.blocks.pool import NULL_BLOCK_ID, BlockPool


def find_disagreements(pool: BlockPool, tables: Sequence[Sequence[KVCacheBlock]]) -> list[str]:
    """One line for each invariant that does not hold, with its numbers. `tables` are all block tables there are."""
    return [*_reference_counts(pool, tables), *_free_list(pool), *_index(pool)]


def _reference_counts(pool: BlockPool, tables: Sequence[Sequence[KVCacheBlock]]) -> Iterator[str]:
    num_holders = Counter(block.block_id for table in tables for block in table)
    for block in pool.blocks:
        num_tables = num_holders[block.block_id]
        if block.ref_cnt != num_tables:
            yield f"block {block.block_id} has ref_cnt {block.ref_cnt}, but {num_tables} tables hold it"


def _free_list(pool: BlockPool) -> Iterator[str]:
    free_ids = {block.block_id for block in pool.free_queue}
    unheld_ids = {block.block_id for block in pool.blocks if block.ref_cnt == 0} - {NULL_BLOCK_ID}
    if len(free_ids) != len(pool.free_queue):
        yield f"the free list counts {len(pool.free_queue)} blocks and links {len(free_ids)}"
    if free_ids != unheld_ids:
        yield f"{len(free_ids)} blocks are in the free list, {len(unheld_ids)} of {pool.num_blocks} are unheld" + (
            f" (differing ids: {sorted(free_ids ^ unheld_ids)[:8]})"
        )


def _index(pool: BlockPool) -> Iterator[str]:
    indexed = list(pool.cached.items())
    indexed += [(digest, block) for digest, others in pool.duplicates.items() for block in others.values()]
    hashed_ids = {block.block_id for block in pool.blocks if block.block_hash is not None}
    wrong_ids = [block.block_id for digest, block in indexed if block.block_hash != digest]
    if wrong_ids:
        yield f"{len(wrong_ids)} blocks are indexed under a digest that they do not have: {wrong_ids[:8]}"
    if sorted(block.block_id for _, block in indexed) != sorted(hashed_ids):
        yield f"{len(indexed)} blocks are in the prefix index, {len(hashed_ids)} have a digest"
    if NULL_BLOCK_ID in hashed_ids:
        yield "the null block has a digest"
