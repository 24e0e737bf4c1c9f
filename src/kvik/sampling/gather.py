"""Values and ranks at chosen tokens -> `TokenLogprobs`. Knows nothing of how a token is chosen."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kvik.kernels.logprobs import token_logprobs, top_logprobs
from kvik.messages import TokenLogprobs


def gather_logprobs(logits: Tensor, chosen: list[int], k: int, normalize: bool) -> list[TokenLogprobs]:
    """One record per row of logits [R, V]: the chosen token, then the k best without it.

    With `normalize` the values are log probabilities, otherwise the logits.
    """
    columns = top_logprobs(logits, torch.tensor(chosen, dtype=torch.int64).to(logits.device), k, normalize=normalize)
    ids, values, ranks = (column.tolist() for column in columns)
    return [record_of(*row) for row in zip(ids, values, ranks, strict=True)]


def extend_with_tokens(record: TokenLogprobs, logits: Tensor, token_ids: list[int], normalize: bool) -> None:
    """Add those of `token_ids` that the record does not hold yet; logits [V]."""
    missing = [i for i in dict.fromkeys(token_ids) if i not in set(record.token_ids)]
    if not missing:
        return
    values, ranks = token_logprobs(logits[None], torch.tensor([missing]).to(logits.device), normalize=normalize)
    add_tokens(record, missing, values[0].tolist(), ranks[0].tolist())


def add_tokens(record: TokenLogprobs, ids: list[int], values: list[float], ranks: list[int]) -> None:
    """Those that the record does not hold yet; `ids` holds each once."""
    held = set(record.token_ids)
    for token_id, value, rank in zip(ids, values, ranks, strict=True):
        if token_id not in held:
            record.token_ids.append(token_id)
            record.logprobs.append(value)
            record.ranks.append(rank)


def is_sound(record: TokenLogprobs) -> bool:
    """False where the row's logits hold NaN."""
    return not math.isnan(record.logprobs[0])


def record_of(ids: list[int], values: list[float], ranks: list[int]) -> TokenLogprobs:
    """Column 0 is the chosen token; column j is rank j, so the chosen token's second place is column `rank`."""
    again = ranks[0]
    if again < len(ids):
        del ids[again], values[again], ranks[again]
    return TokenLogprobs(ids, values, ranks)
