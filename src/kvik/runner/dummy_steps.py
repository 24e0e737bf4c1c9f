"""Steps of no requests, for measuring and for compiling: their blocks are all the null block, whose keys and values are
read and never written (slots are -1), and their tokens are of no meaning. All on the host."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from kvik.config import EngineConfig
from kvik.layers.batch import ForwardBatch, LayerKV
from kvik.plan.step_memory import max_logits_rows


def largest_step(config: EngineConfig, kv: list[LayerKV]) -> ForwardBatch:
    """The one that takes the most memory: the whole token budget in as few requests as can have it, and logits of as
    many rows as may be wanted."""
    limit = config.model.max_model_len or config.model.spec.max_position_embeddings
    num_tokens = config.scheduler.max_num_batched_tokens
    lengths = _lengths(num_tokens, limit, config.scheduler.max_num_seqs)
    return step_of(lengths, lengths, config.cache.block_size, kv, max_logits_rows(config))


def steps_of_all_kernels(config: EngineConfig, kv: list[LayerKV]) -> Iterator[ForwardBatch]:
    """Between them they launch every kernel of a forward pass: few and many requests that decode, short and long
    prompts."""
    for counts in ([1], [1] * config.scheduler.max_num_seqs, [2, 1]):
        yield step_of(counts, counts, config.cache.block_size, kv)
    yield largest_step(config, kv)


def step_of(
    counts: list[int], seq_lens: list[int], block_size: int, kv: list[LayerKV], num_logits_rows: int = 1
) -> ForwardBatch:
    """Requests with so many tokens in this step, the last ones of `seq_lens` in all."""
    ends = torch.tensor([0, *counts]).cumsum(0).to(torch.int32)
    total = int(ends[-1])
    positions = [torch.arange(n - count, n, dtype=torch.int32) for count, n in zip(counts, seq_lens, strict=True)]
    return ForwardBatch(
        token_ids=torch.zeros(total, dtype=torch.int32),
        positions=torch.cat(positions),
        slot_mapping=torch.full((total,), -1, dtype=torch.int32),
        query_start_loc=ends,
        seq_lens=torch.tensor(seq_lens, dtype=torch.int32),
        block_tables=torch.zeros(len(counts), -(-max(seq_lens) // block_size), dtype=torch.int32),
        logits_rows=torch.arange(min(num_logits_rows, total), dtype=torch.int32),
        kv=kv,
    )


def _lengths(num_tokens: int, limit: int, max_num_seqs: int) -> list[int]:
    """Whole requests of `limit` tokens, and what is left as one more."""
    num_whole, rest = divmod(num_tokens, limit)
    return ([limit] * num_whole + [rest] * (rest > 0))[:max_num_seqs]
