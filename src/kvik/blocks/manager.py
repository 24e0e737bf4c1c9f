"""Block tables of sequences: room for their tokens, and prefixes found again. Knows tokens, no request and no queue.

All layers share one table. Layers with a sliding window keep all their blocks too, which costs memory on long
sequences but nothing else: the kernel reads only the window.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from kvik.blocks.hashing import ROOT_DIGEST, make_block_hasher
from kvik.blocks.integrity import find_disagreements
from kvik.blocks.pool import BlockPool, KVCacheBlock
from kvik.errors import EngineError


@dataclass(slots=True, eq=False)
class SequenceBlocks:
    """What this room knows of one sequence."""

    salt: str | None = None
    """Sequences with different salts share nothing."""
    blocks: list[KVCacheBlock] = field(default_factory=list)
    """The block table, in the order of the tokens."""
    block_hashes: list[bytes] = field(default_factory=list)
    """Digests of the first full blocks' tokens, as far as they were needed; they outlive the table."""
    root: bytes = ROOT_DIGEST
    """The parent of the first block: sequences with different ones share nothing."""
    num_cached_blocks: int = 0
    """The first so many blocks of the table can be found by other sequences."""

    def emptied(self) -> SequenceBlocks:
        """The same sequence without blocks; those stay with this one."""
        return SequenceBlocks(self.salt, block_hashes=self.block_hashes, root=self.root)


class KVCacheManager:
    """Hands out, shares, caches and takes back blocks of `block_size` tokens."""

    def __init__(
        self, num_blocks: int, block_size: int, *, enable_prefix_caching: bool = True, hash_algorithm: str = "sha256"
    ) -> None:
        self.block_size = block_size
        self.enable_prefix_caching = enable_prefix_caching
        self.pool = BlockPool(num_blocks)
        self._hash_block = make_block_hasher(hash_algorithm, block_size)

    @property
    def num_blocks(self) -> int:
        """Usable blocks, free or not."""
        return self.pool.num_blocks

    @property
    def num_free_blocks(self) -> int:
        return self.pool.num_free_blocks

    @property
    def usage(self) -> float:
        return self.pool.usage

    @property
    def num_indexed_blocks(self) -> int:
        """Blocks that a lookup may find."""
        return len(self.pool.cached)

    def blocks_for(self, num_tokens: int) -> int:
        """Blocks that hold `num_tokens`."""
        return -(-num_tokens // self.block_size)

    def find_cached(self, sequence: SequenceBlocks, token_ids: Sequence[int]) -> list[KVCacheBlock]:
        """Full blocks whose keys and values are there already, from the start to the first miss.

        Never all tokens: the last one is always computed, because its logits are wanted. Takes no reference.
        """
        if not self.enable_prefix_caching:
            return []
        num_full = (len(token_ids) - 1) // self.block_size
        self._hash_up_to(sequence, token_ids, num_full)
        return self.pool.find(sequence.block_hashes[:num_full])

    def allocate(
        self,
        sequence: SequenceBlocks,
        num_tokens: int,
        *,
        hits: Sequence[KVCacheBlock] = (),
        num_reserved_tokens: int = 0,
        num_kept_free: int = 0,
    ) -> list[int] | None:
        """Give an empty table its first blocks: `hits`, then new ones up to `num_tokens`.

        Returns the ids of the whole table, or None, with nothing changed, when the free blocks do not suffice for
        the larger of `num_tokens` and `num_reserved_tokens` and `num_kept_free` blocks beside.
        """
        num_wanted = self.blocks_for(max(num_tokens, num_reserved_tokens)) - len(hits)
        num_wanted += sum(1 for block in hits if block.ref_cnt == 0)
        if num_wanted + num_kept_free > self.num_free_blocks:
            return None
        self.pool.touch(hits)
        sequence.blocks = [*hits, *self.pool.take(self.blocks_for(num_tokens) - len(hits))]
        sequence.num_cached_blocks = len(hits)
        return [block.block_id for block in sequence.blocks]

    def grow(self, sequence: SequenceBlocks, num_tokens: int) -> list[int] | None:
        """Lengthen the table to hold `num_tokens`. Returns the ids appended, or None when too few blocks are free."""
        num_new = -(-num_tokens // self.block_size) - len(sequence.blocks)
        if num_new <= 0:
            return []
        if num_new > self.num_free_blocks:
            return None
        new_blocks = self.pool.take(num_new)
        sequence.blocks += new_blocks
        return [block.block_id for block in new_blocks]

    def cache_full_blocks(self, sequence: SequenceBlocks, token_ids: Sequence[int], num_computed_tokens: int) -> None:
        """Let others find the blocks that the first `num_computed_tokens` tokens fill.

        May be called for tokens that the coming step computes: in each layer all keys and values of a step are
        written before any are read, so a request admitted to the same step may share them.
        """
        num_full = num_computed_tokens // self.block_size
        if num_full <= sequence.num_cached_blocks or not self.enable_prefix_caching:
            return
        self._hash_up_to(sequence, token_ids, num_full)
        for index in range(sequence.num_cached_blocks, num_full):
            self.pool.remember(sequence.blocks[index], sequence.block_hashes[index])
        sequence.num_cached_blocks = num_full

    def uncache(self, sequence: SequenceBlocks, num_valid_tokens: int) -> None:
        """Let nobody find the blocks beyond the first `num_valid_tokens`: they were not written after all."""
        num_valid = num_valid_tokens // self.block_size
        for block in sequence.blocks[num_valid : sequence.num_cached_blocks]:
            self.pool.forget(block)
        sequence.num_cached_blocks = min(sequence.num_cached_blocks, num_valid)

    def free(self, sequence: SequenceBlocks) -> None:
        """Give all blocks back, the last first: a prefix's head is worth more than its tail."""
        self.pool.release(reversed(sequence.blocks))
        sequence.blocks = []
        sequence.num_cached_blocks = 0

    def reset_prefix_cache(self) -> bool:
        """Forget all prefixes. False, and nothing done, while any sequence holds a block."""
        return self.pool.reset()

    def check_integrity(self, sequences: Iterable[SequenceBlocks]) -> None:
        """Raises `EngineError` with the numbers that disagree, given every sequence that holds blocks."""
        problems = find_disagreements(self.pool, [sequence.blocks for sequence in sequences])
        if problems:
            raise EngineError("KV cache blocks do not add up: " + "; ".join(problems))

    def _hash_up_to(self, sequence: SequenceBlocks, token_ids: Sequence[int], num_full: int) -> None:
        hashes, size = sequence.block_hashes, self.block_size
        for index in range(len(hashes), num_full):
            parent = hashes[-1] if hashes else sequence.root
            salt = sequence.salt if index == 0 else None
            hashes.append(self._hash_block(parent, token_ids[index * size : (index + 1) * size], salt))
