"""Logits of one step -> one token per request. Knows neither requests' ids nor text.

Order: copy for raw logprobs; masks of grammars; each request's processors (see `processors`); arg max, or
temperature, min-p, top-k, top-p and a draw; logprobs. Requests that ask for nothing share one
native call, and no row reads another.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from kvik.errors import ConfigError, EngineRequestError
from kvik.kernels.sample import arg_max, kept_tokens, sample
from kvik.messages import TokenLogprobs
from kvik.sampling.columns import columns_of
from kvik.sampling.gather import extend_with_tokens, gather_logprobs, is_sound
from kvik.sampling.state import SamplingState
from kvik.sampling.token_mask import TokenMask, apply_masks

LogprobsMode = Literal["raw_logprobs", "raw_logits", "processed_logprobs", "processed_logits"]


class SampledToken(NamedTuple):
    """What one row got: a token, or an error that ends its request."""

    token_id: int
    """-1 with an error."""
    logprobs: TokenLogprobs | None
    error: str | None
    error_param: str | None = None
    """The request's field that led to the error; None where the model did."""


class Sampler:
    """Chooses tokens. Keeps nothing between steps: what a request needs is in its `SamplingState`."""

    def __init__(self, logprobs_mode: str = "raw_logprobs") -> None:
        """Raw values are the model's; processed ones are those that the draw saw, -inf where a token was ruled out."""
        if logprobs_mode not in get_args(LogprobsMode):
            raise ConfigError(
                f"logprobs mode must be one of {', '.join(get_args(LogprobsMode))}, got {logprobs_mode!r}"
            )
        self._raw = logprobs_mode.startswith("raw")
        self._normalize = logprobs_mode.endswith("logprobs")

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
        sampled = _finished(_choose(logits, states).tolist(), logits, states)
        self._add_logprobs(sampled, logits, raw, states)
        return sampled

    def choose(self, logits: Tensor, states: Sequence[SamplingState]) -> Tensor:
        """Token ids [R] int64 of rows that ask for nothing but a token: no mask, no processor, no logprobs.

        They are on the device of the logits; -1 where a row has no sound distribution. Nothing is waited for.
        """
        return _choose(logits, states)

    def told(self, token_ids: Sequence[int]) -> list[SampledToken]:
        """What `choose` has chosen, once it is known."""
        return [SampledToken(token_id, None, None) if token_id >= 0 else _FAILED for token_id in token_ids]

    def prompt_logprobs(self, logits: Tensor, target_ids: Sequence[int], k: int) -> list[TokenLogprobs]:
        """One record per row of logits [P, V]: the prompt's own next token, then the k best (-1: all) without it.

        Always of the model's own logits: prompts are not processed. Raises `EngineRequestError` when a row holds NaN.
        """
        num_best = logits.shape[1] if k == -1 else min(k, logits.shape[1])
        records = gather_logprobs(logits, list(target_ids), num_best, self._normalize)
        if not all(is_sound(record) for record in records):
            raise EngineRequestError(_UNSOUND)
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
                sampled[r] = SampledToken(sampled[r].token_id, record, None) if is_good else _FAILED

    def _values(
        self, logits: Tensor, raw: dict[int, Tensor], states: Sequence[SamplingState], rows: list[int]
    ) -> Tensor:
        """The logits [len(rows), V] that the mode reports."""
        if not self._raw:
            return _after_filters(logits[rows], [states[r] for r in rows])
        if not raw and len(rows) == len(states):
            return logits
        return torch.stack([raw.get(r, logits[r]) for r in rows])


_UNSOUND = "the model's logits for this request hold NaN or infinity; its weights or its prompt may be damaged"
_FAILED = SampledToken(-1, None, _UNSOUND)


def _finished(token_ids: Sequence[int], logits: Tensor, states: Sequence[SamplingState]) -> list[SampledToken]:
    return [
        SampledToken(token_id, None, None) if token_id >= 0 else _without_token(logits[r], states[r])
        for r, token_id in enumerate(token_ids)
    ]


def _without_token(logits: Tensor, state: SamplingState) -> SampledToken:
    """The error of a row [V] in which nothing can be chosen."""
    fields = state.excluding_fields
    if not fields or not bool(torch.isneginf(logits).all()):
        return _FAILED
    subject = f"{fields[0]} rules" if len(fields) == 1 else f"{', '.join(fields[:-1])} and {fields[-1]} together rule"
    return SampledToken(-1, None, f"no token is left: {subject} out the whole vocabulary here", fields[0])


def _choose(logits: Tensor, states: Sequence[SamplingState]) -> Tensor:
    """[R] int64."""
    if all(state.params.is_greedy for state in states):
        return arg_max(logits)
    return sample(logits, *columns_of(states, logits.device))


def _after_filters(logits: Tensor, states: Sequence[SamplingState]) -> Tensor:
    """Logits over temperature, -inf where min-p, top-k or top-p ruled a token out; greedy rows as they are."""
    filters = columns_of(states, logits.device).filters
    kept, temperature = kept_tokens(logits, *filters), filters[0]
    divisor = torch.where(temperature > 0, temperature, 1.0)
    return (logits / divisor[:, None]).masked_fill(~kept, -torch.inf)
