"""All blocks of the KV cache: who holds them, which are free, and which can be found again by their tokens.

Knows digests, not token ids, and block tables only as lists handed in. Block 0 is the null block: it stands for
"nothing here", and is never handed out, never cached and never freed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kvik.blocks.free_queue import FreeBlockQueue, KVCacheBlock

__all__ = ["NULL_BLOCK_ID", "BlockPool", "KVCacheBlock"]

NULL_BLOCK_ID = 0


class BlockPool:
    """`num_blocks` usable blocks with ids 1 to num_blocks.

    A free block keeps its digest, and so can be hit, until it is handed out again: that is the eviction.
    """

    def __init__(self, num_blocks: int) -> None:
        if num_blocks < 1:
            raise ValueError(f"a pool needs at least 1 usable block, got {num_blocks}")
        self.num_blocks = num_blocks
        self.blocks = [KVCacheBlock(block_id) for block_id in range(num_blocks + 1)]
        """By id; the first is the null block."""
        self.free_queue = FreeBlockQueue(self.blocks[1:])
        self.cached: dict[bytes, KVCacheBlock] = {}
        """Digest -> the block that a lookup finds."""
        self.duplicates: dict[bytes, dict[int, KVCacheBlock]] = {}
        """Digest -> further blocks with the same tokens, by id. Two requests that computed the same keep both."""

    @property
    def num_free_blocks(self) -> int:
        return len(self.free_queue)

    @property
    def usage(self) -> float:
        """Share of the usable blocks that are held, 0 to 1."""
        return 1.0 - len(self.free_queue) / self.num_blocks

    def take(self, num_blocks: int) -> list[KVCacheBlock]:
        """Hand out blocks with one reference each, evicting what they held. Raises `IndexError` when none is free."""
        taken = []
        for _ in range(num_blocks):
            block = self.free_queue.pop_front()
            self.forget(block)
            block.ref_cnt = 1
            taken.append(block)
        return taken

    def touch(self, blocks: Iterable[KVCacheBlock]) -> None:
        """Add a reference to each; a free one leaves the free list and keeps what it holds."""
        for block in blocks:
            if block.ref_cnt == 0:
                self.free_queue.remove(block)
            block.ref_cnt += 1

    def release(self, blocks: Iterable[KVCacheBlock]) -> None:
        """Take one reference from each. What nobody can find again is reused first; the rest in the order given."""
        for block in blocks:
            block.ref_cnt -= 1
            if block.ref_cnt > 0:
                continue
            if block.block_hash is None:
                self.free_queue.push_front(block)
            else:
                self.free_queue.push_back(block)

    def find(self, block_hashes: Sequence[bytes]) -> list[KVCacheBlock]:
        """The blocks of the longest cached prefix: up to the first digest that is not here."""
        found = []
        for block_hash in block_hashes:
            block = self.cached.get(block_hash)
            if block is None:
                break
            found.append(block)
        return found

    def remember(self, block: KVCacheBlock, block_hash: bytes) -> None:
        """Make a full block findable."""
        block.block_hash = block_hash
        if block_hash in self.cached:
            self.duplicates.setdefault(block_hash, {})[block.block_id] = block
        else:
            self.cached[block_hash] = block

    def forget(self, block: KVCacheBlock) -> None:
        """Undo `remember`; a duplicate, if there is one, is found instead from now on."""
        block_hash = block.block_hash
        if block_hash is None:
            return
        block.block_hash = None
        others = self.duplicates.get(block_hash)
        if self.cached[block_hash] is not block:
            assert others is not None
            del others[block.block_id]
        elif others:
            self.cached[block_hash] = others.pop(next(iter(others)))
        else:
            del self.cached[block_hash]
        if others is not None and not others:
            del self.duplicates[block_hash]

    def reset(self) -> bool:
        """Forget every digest. False, and nothing done, while any block is held."""
        if self.num_free_blocks < self.num_blocks:
            return False
        for block in self.blocks:
            block.block_hash = None
        self.cached.clear()
        self.duplicates.clear()
        return True
