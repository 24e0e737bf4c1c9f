"""Choosing one token per row, in plain torch. Runs on any device; defines which token is the right one.

Weights are whole numbers, so their sums are exact in any order, and a row's token depends on nothing but the row.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kvik.kernels.sample.philox import random_word64

GREEDY_BELOW = 1e-5
"""Temperatures below this are arg max."""
WEIGHT_ONE = 2.0**40
"""The weight of the most likely token. Tokens less likely by more than this factor have weight 0."""


def sample(
    logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor, min_p: Tensor, seeds: Tensor, positions: Tensor
) -> Tensor:
    """See `kvik.kernels.sample.sample`."""
    words = [random_word64(s, p) for s, p in zip(seeds.tolist(), positions.tolist(), strict=True)]
    chosen = [
        _sample_row(row, t, k, p, m, word)
        for row, t, k, p, m, word in zip(
            logits, temperature, top_k.tolist(), top_p.tolist(), min_p.tolist(), words, strict=True
        )
    ]
    return torch.tensor(chosen, dtype=torch.int64, device=logits.device)


def arg_max(logits: Tensor) -> Tensor:
    """See `kvik.kernels.sample.arg_max`."""
    chosen = [_first_max(row) if _is_sound(row) else -1 for row in logits]
    return torch.tensor(chosen, dtype=torch.int64, device=logits.device)


def kept_tokens(logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor, min_p: Tensor) -> Tensor:
    """See `kvik.kernels.sample.kept_tokens`."""
    kept = torch.zeros(logits.shape, dtype=torch.bool, device=logits.device)
    for r, row in enumerate(logits):
        if not _is_sound(row):
            continue
        if float(temperature[r]) < GREEDY_BELOW:
            kept[r] = True
            continue
        scaled, weights = _weights(row, temperature[r])
        kept[r] = _kept(scaled, weights, int(top_k[r]), float(top_p[r]), float(min_p[r]))
    return kept


def _sample_row(row: Tensor, temperature: Tensor, top_k: int, top_p: float, min_p: float, word: int) -> int:
    if not _is_sound(row):
        return -1
    if float(temperature) < GREEDY_BELOW:
        return _first_max(row)
    scaled, weights = _weights(row, temperature)
    cumulative = torch.where(_kept(scaled, weights, top_k, top_p, min_p), weights, 0).cumsum(dim=0)
    target = word * int(cumulative[-1]) >> 64
    return int(torch.searchsorted(cumulative, target, right=True))


def _is_sound(row: Tensor) -> bool:
    """No NaN, no +inf, and not all -inf."""
    return math.isfinite(float(row.max()))


def _first_max(row: Tensor) -> int:
    return int((row == row.max()).nonzero()[0])


def _weights(row: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
    """Logits below the maximum over temperature, [V] fp32, and their probabilities as whole numbers, [V] int64."""
    scaled = (row - row.max()) * (1.0 / temperature)
    return scaled, (torch.exp(scaled) * WEIGHT_ONE).long()


def _kept(scaled: Tensor, weights: Tensor, top_k: int, top_p: float, min_p: float) -> Tensor:
    """Which tokens min-p, then top-k, then top-p leave, [V] bool; at least the most likely one."""
    kept = weights > 0
    if min_p > 0:
        kept &= scaled >= math.log(min_p)
    order = torch.sort(scaled, descending=True, stable=True).indices
    in_order = kept[order]
    if top_k > 0:
        in_order[top_k:] = False
    left = torch.where(in_order, weights[order], 0)
    before = left.cumsum(dim=0) - left
    in_order &= before < math.ceil(top_p * int(left.sum()))
    return torch.zeros_like(kept).scatter_(0, order, in_order)
