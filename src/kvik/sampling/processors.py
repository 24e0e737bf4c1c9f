"""What changes one request's logits before a token is chosen, in place, in the order of the field's pipeline.

allowed_token_ids, bad words, the min_tokens mask, logit_bias, penalties. A request has only the processors that it
asked for; each touches only the entries that it names. Knows one row at a time, never the batch. Where logits lie on a
GPU, `on_device` makes arrays for a whole batch of what these say of themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from kvik.errors import InvalidRequestError
from kvik.sampling.token_counts import TokenCounts
from kvik.sampling_params import SamplingParams


class LogitsProcessor(Protocol):
    """One wish of one request. `token_ids` are its tokens so far, prompt and output."""

    def apply(self, logits: Tensor, token_ids: Sequence[int]) -> None:
        """Change logits [V] fp32 in place."""

    def append(self, token_id: int) -> None:
        """`token_id` is now the last token of the request."""


class AllowedTokens:
    """Nothing but these tokens."""

    def __init__(self, allowed: Sequence[int]) -> None:
        self.token_ids = tuple(allowed)
        self._allowed = _index(allowed)

    def apply(self, logits: Tensor, token_ids: Sequence[int]) -> None:
        allowed = self._allowed.to(logits.device)
        kept = logits[allowed]
        logits.fill_(-torch.inf)
        logits[allowed] = kept

    def append(self, token_id: int) -> None:
        pass


class BadWords:
    """No output that spells one of these sequences: its last token is masked after its beginning."""

    def __init__(self, sequences: Sequence[Sequence[int]], num_prompt_tokens: int) -> None:
        self.always = tuple(s[0] for s in sequences if len(s) == 1)
        """Tokens that are a bad word by themselves."""
        self._always = _index(self.always)
        self._longer = [tuple(s) for s in sequences if len(s) > 1]
        self._num_prompt_tokens = num_prompt_tokens

    def apply(self, logits: Tensor, token_ids: Sequence[int]) -> None:
        if len(self._always):
            logits[self._always.to(logits.device)] = -torch.inf
        for last in self.ends_after(token_ids):
            logits[last] = -torch.inf

    def ends_after(self, token_ids: Sequence[int]) -> list[int]:
        """The tokens that would now complete a bad word of several."""
        ends = []
        for *beginning, last in self._longer:
            start = len(token_ids) - len(beginning)
            if start >= self._num_prompt_tokens and list(token_ids[start:]) == beginning:
                ends.append(last)
        return ends

    def append(self, token_id: int) -> None:
        pass


class MinTokens:
    """No token that would end the answer before it has `min_tokens`."""

    def __init__(self, min_tokens: int, ending: Iterable[int], num_prompt_tokens: int) -> None:
        self.ending = tuple(sorted(set(ending)))
        self.masked_below = num_prompt_tokens + min_tokens
        """Tokens of prompt and answer."""
        self._ending = _index(self.ending)

    def apply(self, logits: Tensor, token_ids: Sequence[int]) -> None:
        if len(token_ids) < self.masked_below:
            logits[self._ending.to(logits.device)] = -torch.inf

    def append(self, token_id: int) -> None:
        pass


class LogitBias:
    """Numbers added to single logits."""

    def __init__(self, bias: dict[int, float]) -> None:
        self.bias = bias
        self._ids = _index(bias)
        self._values = torch.tensor(list(bias.values()), dtype=torch.float32)

    def apply(self, logits: Tensor, token_ids: Sequence[int]) -> None:
        logits[self._ids.to(logits.device)] += self._values.to(logits.device)

    def append(self, token_id: int) -> None:
        pass


class Penalties:
    """Repetition over prompt and output (Keskar et al., 2019, section 4.1), then frequency and presence over output."""

    def __init__(self, params: SamplingParams, counts: TokenCounts) -> None:
        self.repetition = params.repetition_penalty
        self.frequency = params.frequency_penalty
        self.presence = params.presence_penalty
        self._counts = counts

    def apply(self, logits: Tensor, token_ids: Sequence[int]) -> None:
        ids, counts = self._counts.token_ids.to(logits.device), self._counts.output_counts.to(logits.device)
        values = logits[ids]
        values = torch.where(values > 0, values / self.repetition, values * self.repetition)
        values -= self.frequency * counts
        values -= self.presence * (counts > 0)
        logits[ids] = values

    def append(self, token_id: int) -> None:
        self._counts.add_output(token_id)


def build_processors(
    params: SamplingParams, token_ids: Sequence[int], num_prompt_tokens: int, eos_token_id: int | None, vocab_size: int
) -> list[LogitsProcessor]:
    """The processors that `params` ask for, in order; empty for most requests.

    Raises `InvalidRequestError` for a token id outside the vocabulary.
    """
    _check_vocabulary(params, vocab_size)
    processors: list[LogitsProcessor] = []
    if params.allowed_token_ids is not None:
        processors.append(AllowedTokens(params.allowed_token_ids))
    if params.bad_words_token_ids:
        processors.append(BadWords(params.bad_words_token_ids, num_prompt_tokens))
    ending = [*params.stop_token_ids, *([] if eos_token_id is None else [eos_token_id])]
    if ending and len(token_ids) - num_prompt_tokens < params.min_tokens:
        processors.append(MinTokens(params.min_tokens, ending, num_prompt_tokens))
    if params.logit_bias:
        processors.append(LogitBias(params.logit_bias))
    if _has_penalties(params):
        prompt, outputs = token_ids[:num_prompt_tokens], token_ids[num_prompt_tokens:]
        processors.append(Penalties(params, TokenCounts(prompt, outputs)))
    return processors


def _has_penalties(params: SamplingParams) -> bool:
    return (params.repetition_penalty, params.frequency_penalty, params.presence_penalty) != (1.0, 0.0, 0.0)


def _check_vocabulary(params: SamplingParams, vocab_size: int) -> None:
    named: dict[str, Iterable[int]] = {
        "allowed_token_ids": params.allowed_token_ids or (),
        "bad_words": [i for word in params.bad_words_token_ids for i in word],
        "stop_token_ids": params.stop_token_ids,
        "logit_bias": params.logit_bias or (),
        "logprob_token_ids": params.logprob_token_ids or (),
    }
    for name, ids in named.items():
        for token_id in ids:
            if not 0 <= token_id < vocab_size:
                raise InvalidRequestError(
                    f"{name} must hold token ids from 0 to {vocab_size - 1}, got {token_id}", param=name
                )


def _index(token_ids: Iterable[int]) -> Tensor:
    return torch.tensor(list(token_ids), dtype=torch.int64)
