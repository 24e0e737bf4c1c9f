"""Logits of one step -> one token per request. Knows neither requests' ids nor text.

Order: copy for raw logprobs; masks of grammars; each request's processors (see `processors`); arg max, or
temperature, min-p, top-k, top-p and a draw; logprobs. Requests that ask for nothing share one
native call, and no row reads another.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from kvik.errors import EngineRequestError
from kvik.kernels.sample import arg_max, sample
from kvik.messages import TokenLogprobs
from kvik.sampling.columns import columns_of
from kvik.sampling.filters import after_filters
from kvik.sampling.gather import extend_with_tokens, gather_logprobs, is_sound
from kvik.sampling.logprobs_mode import kind_of
from kvik.sampling.sampled_token import FAILED, UNSOUND, SampledToken, without_token
from kvik.sampling.state import SamplingState
from kvik.sampling.token_mask import TokenMask, apply_masks


class Sampler:
    """Chooses tokens. Keeps nothing between steps: what a request needs is in its `SamplingState`."""

    def __init__(self, logprobs_mode: str = "raw_logprobs") -> None:
        """Raises `ConfigError` for a mode that is none."""
        self._raw, self._normalize = kind_of(logprobs_mode)

    def sample(
        self, logits: Tensor, states: Sequence[SamplingState], masks: Sequence[TokenMask | None] | None = None
    ) -> list[SampledToken]:
        """One token per row of logits [R, V] fp32, whose rows may be changed in place; states [R].

        masks [R]: the tokens that a row's grammar allows; None where it has none.

        A row without a sound distribution (NaN, +inf, or every token ruled out) gets an error; the others go on.
        """
        masked = [] if masks is None else [r for r, mask in enumerate(masks) if mask is not None]
        raw = self._copy_raw(logits, states, masked)
        if masks is not None:
            apply_masks(logits, masks)
        if all(state.is_plain_greedy for state in states):
            return _finished(arg_max(logits).tolist(), logits, states)
        for r, state in enumerate(states):
            for processor in state.processors:
                processor.apply(logits[r], state.token_ids)
        sampled = _finished(choose(logits, states).tolist(), logits, states)
        self._add_logprobs(sampled, logits, raw, states)
        return sampled

    def prompt_logprobs(self, logits: Tensor, target_ids: Sequence[int], k: int) -> list[TokenLogprobs]:
        """One record per row of logits [P, V]: the prompt's own next token, then the k best (-1: all) without it.

        Always of the model's own logits: prompts are not processed. Raises `EngineRequestError` when a row holds NaN.
        """
        num_best = logits.shape[1] if k == -1 else min(k, logits.shape[1])
        records = gather_logprobs(logits, list(target_ids), num_best, self._normalize)
        if not all(is_sound(record) for record in records):
            raise EngineRequestError(UNSOUND)
        return records

    def _copy_raw(self, logits: Tensor, states: Sequence[SamplingState], masked: Collection[int]) -> dict[int, Tensor]:
        """Rows whose raw values are wanted and will be changed."""
        if not self._raw:
            return {}
        return {
            r: logits[r].clone() for r, s in enumerate(states) if s.wants_logprobs and (s.processors or r in masked)
        }

    def _add_logprobs(
        self, sampled: list[SampledToken], logits: Tensor, raw: dict[int, Tensor], states: Sequence[SamplingState]
    ) -> None:
        by_count: dict[int, list[int]] = {}
        for r, state in enumerate(states):
            if state.wants_logprobs and sampled[r].error is None:
                by_count.setdefault(min(state.num_logprobs, logits.shape[1]), []).append(r)
        for k, rows in by_count.items():
            values = self._values(logits, raw, states, rows)
            records = gather_logprobs(values, [sampled[r].token_id for r in rows], k, self._normalize)
            for r, row_values, record in zip(rows, values, records, strict=True):
                extend_with_tokens(record, row_values, states[r].params.logprob_token_ids or [], self._normalize)
                is_good = is_sound(record)
                sampled[r] = SampledToken(sampled[r].token_id, record, None) if is_good else FAILED

    def _values(
        self, logits: Tensor, raw: dict[int, Tensor], states: Sequence[SamplingState], rows: list[int]
    ) -> Tensor:
        """The logits [len(rows), V] that the mode reports."""
        if not self._raw:
            return after_filters(logits[rows], *columns_of([states[r] for r in rows], logits.device).filters)
        if not raw and len(rows) == len(states):
            return logits
        return torch.stack([raw.get(r, logits[r]) for r in rows])


def _finished(token_ids: Sequence[int], logits: Tensor, states: Sequence[SamplingState]) -> list[SampledToken]:
    return [
        SampledToken(token_id, None, None) if token_id >= 0 else _without_token(logits[r], states[r])
        for r, token_id in enumerate(token_ids)
    ]


def _without_token(logits: Tensor, state: SamplingState) -> SampledToken:
    """The error of a row [V] in which nothing can be chosen."""
    return without_token(state.excluding_fields, is_ruled_out=bool(torch.isneginf(logits).all()))


def choose(logits: Tensor, states: Sequence[SamplingState]) -> Tensor:
    """Token ids [R] int64 of logits [R, V], as they are now; -1 where a row has no sound distribution."""
    if all(state.params.is_greedy for state in states):
        return arg_max(logits)
    return sample(logits, *columns_of(states, logits.device))
