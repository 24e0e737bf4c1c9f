"""One block's bookkeeping, and the list of free blocks. Knows no request and no hash function."""

from __future__ import annotations

from collections.abc import Iterator


class KVCacheBlock:
    """A block of the KV pool as the scheduler sees it; its keys and values live in the runner."""

    __slots__ = ("block_hash", "block_id", "next_free", "prev_free", "ref_cnt")

    def __init__(self, block_id: int) -> None:
        self.block_id = block_id
        self.ref_cnt = 0
        """Requests whose tables hold this block."""
        self.block_hash: bytes | None = None
        """Digest of all tokens up to this block's end, once the block is full and may be found again."""
        self.prev_free: KVCacheBlock | None = None
        self.next_free: KVCacheBlock | None = None

    def __repr__(self) -> str:
        return f"KVCacheBlock({self.block_id}, ref_cnt={self.ref_cnt}, cached={self.block_hash is not None})"


class FreeBlockQueue:
    """Free blocks in the order of their reuse: the front is taken first.

    Doubly linked through the blocks themselves, so that a prefix hit takes a block out of the middle in constant
    time and nothing is allocated. Two sentinels spare the ends a special case.
    """

    def __init__(self, blocks: list[KVCacheBlock]) -> None:
        self._front = KVCacheBlock(-1)
        self._back = KVCacheBlock(-1)
        _link(self._front, self._back)
        self._num_blocks = 0
        for block in blocks:
            self.push_back(block)

    def __len__(self) -> int:
        return self._num_blocks

    def __iter__(self) -> Iterator[KVCacheBlock]:
        block = self._front.next_free
        while block is not None and block is not self._back:
            yield block
            block = block.next_free

    def pop_front(self) -> KVCacheBlock:
        """Take the block that was free for longest. Raises `IndexError` when there is none."""
        block = self._front.next_free
        if block is None or block is self._back:
            raise IndexError("the free list is empty")
        self.remove(block)
        return block

    def push_front(self, block: KVCacheBlock) -> None:
        self._insert(self._front, block, self._front.next_free)

    def push_back(self, block: KVCacheBlock) -> None:
        self._insert(self._back.prev_free, block, self._back)

    def remove(self, block: KVCacheBlock) -> None:
        """Take a block out of wherever it is. Raises `ValueError` when it is not free."""
        before, after = block.prev_free, block.next_free
        if before is None or after is None:
            raise ValueError(f"{block} is not in the free list")
        _link(before, after)
        block.prev_free = block.next_free = None
        self._num_blocks -= 1

    def _insert(self, before: KVCacheBlock | None, block: KVCacheBlock, after: KVCacheBlock | None) -> None:
        if before is None or after is None or block.next_free is not None:
            raise ValueError(f"{block} is in the free list already")
        _link(before, block)
        _link(block, after)
        self._num_blocks += 1


def _link(left: KVCacheBlock, right: KVCacheBlock) -> None:
    left.next_free = right
    right.prev_free = left
