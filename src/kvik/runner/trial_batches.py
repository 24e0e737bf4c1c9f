"""Batches of no request, in the arrays of a step: what two ways to compute are compared by in idle moments.

They write to no slot and read the null block only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from kvik.kernels.batch_rows import BatchArrays
from kvik.kernels.tape import Counts
from kvik.layers.batch import ForwardBatch, LayerKV
from kvik.runner.batch_builder import front_of

_DECODES = (1, 8)
"""Requests of a token each."""
_PROMPT_TOKENS = 256
_CONTEXT_BLOCKS = 4
"""Blocks that a decoding request has."""


def trial_batches(
    arrays: BatchArrays, kv: list[LayerKV], block_size: int, most: Counts
) -> list[Callable[[], ForwardBatch]]:
    """Decoding requests, few and many, and a prompt; each call writes one to the arrays."""
    num_blocks = min(_CONTEXT_BLOCKS, most.block_table_width)
    requests = sorted({min(num_requests, most.num_requests, most.num_rows) for num_requests in _DECODES})
    num_tokens = min(_PROMPT_TOKENS, most.num_rows, most.block_table_width * block_size)
    decodes = [partial(_write, arrays, kv, block_size, count, 1, num_blocks * block_size) for count in requests]
    return [*decodes, partial(_write, arrays, kv, block_size, 1, num_tokens, num_tokens)]


def _write(
    arrays: BatchArrays, kv: list[LayerKV], block_size: int, num_requests: int, num_tokens: int, seq_len: int
) -> ForwardBatch:
    """Requests that are alike: their last `num_tokens` of `seq_len`."""
    width = -(-seq_len // block_size)
    batch = front_of(arrays, num_requests * num_tokens, num_requests, width, 0, kv)
    batch.token_ids.zero_()
    batch.slot_mapping.fill_(-1)
    batch.block_tables.zero_()
    batch.seq_lens.fill_(seq_len)
    for request in range(num_requests):
        first = request * num_tokens
        batch.query_start_loc[request] = first
        for token in range(num_tokens):
            batch.positions[first + token] = seq_len - num_tokens + token
    batch.query_start_loc[num_requests] = num_requests * num_tokens
    return batch
