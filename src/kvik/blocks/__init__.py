"""Block ids, reference counts and the prefix index. Knows ids and digests, never a tensor, never a queue."""

from kvik.blocks.manager import KVCacheManager, SequenceBlocks
from kvik.blocks.pool import BlockPool, KVCacheBlock

__all__ = ["BlockPool", "KVCacheBlock", "KVCacheManager", "SequenceBlocks"]
