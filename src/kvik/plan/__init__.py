"""Memory arithmetic before and at a start: what weights, a step, graphs and the KV cache take, what fits, what would.

Numbers in, numbers out: reads headers of files at most, no device, and never imports torch. `kvik plan` and a server's
start use this same code.
"""

from kvik.plan.kv_cache import (
    GIB,
    NUM_NULL_BLOCKS,
    KVCachePlan,
    KVElements,
    MemoryBudget,
    available_kv_bytes,
    kv_block_bytes,
    plan_kv_cache,
)

__all__ = [
    "GIB",
    "NUM_NULL_BLOCKS",
    "KVCachePlan",
    "KVElements",
    "MemoryBudget",
    "available_kv_bytes",
    "kv_block_bytes",
    "plan_kv_cache",
]
