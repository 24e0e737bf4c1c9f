"""What the sampler remembers of one request. Made at its admission, dropped with it; knows no batch.

All that can be prepared is prepared here, so that a step costs a request only what it asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

from kvik.errors import InvalidRequestError
from kvik.sampling.processors import build_processors
from kvik.sampling_params import SamplingParams


class SamplingState:
    """Parameters and tokens of one running request. The runner owns it and calls `append` once per new token."""

    __slots__ = (
        "is_plain", "is_plain_greedy", "num_logprobs", "num_prompt_tokens", "params", "position", "processors", "seed",
        "token_ids", "wants_logprobs",
    )  # fmt: skip

    def __init__(
        self,
        params: SamplingParams,
        token_ids: Sequence[int],
        num_prompt_tokens: int,
        eos_token_id: int | None,
        vocab_size: int,
    ) -> None:
        """`token_ids` are prompt and, after a preemption, outputs; `eos_token_id` is masked before min_tokens.

        Raises `InvalidRequestError` for a token id outside the vocabulary, or a random request without a seed.
        """
        params = params.clamped()
        if params.seed is None and not params.is_greedy:
            raise InvalidRequestError(
                "a random request needs a seed, so that its tokens can be drawn again", param="seed"
            )
        self.params = params
        self.token_ids = list(token_ids)
        """Prompt and outputs, as far as the runner has appended them."""
        self.num_prompt_tokens = num_prompt_tokens
        self.processors = tuple(build_processors(params, token_ids, num_prompt_tokens, eos_token_id, vocab_size))
        self.num_logprobs = 0 if params.logprobs is None else vocab_size if params.logprobs == -1 else params.logprobs
        """Best tokens to report beside the chosen one."""
        self.wants_logprobs = params.logprobs is not None or bool(params.logprob_token_ids)
        self.is_plain = not self.processors and not self.wants_logprobs
        """Wants nothing but a token."""
        self.is_plain_greedy = params.is_greedy and self.is_plain
        self.seed = params.seed or 0
        self.position = len(token_ids)
        """Absolute position of the token to choose next: the counter of its random number."""

    def ahead(self, num_tokens: int) -> SamplingState:
        """The state as it will be so many tokens later, as far as the draw is concerned: its positions move on."""
        if num_tokens == 0 or self.params.is_greedy:
            return self
        later = copy(self)
        later.position = self.position + num_tokens
        return later

    @property
    def excluding_fields(self) -> list[str]:
        """The request's fields that rule tokens out of the answer, the likeliest to be at fault first."""
        params, constraint = self.params, self.params.structured_outputs
        wishes = {
            "allowed_token_ids": params.allowed_token_ids is not None,
            "bad_words": bool(params.bad_words_token_ids),
            "min_tokens": params.min_tokens > 0,
            "structured_outputs" if constraint is None else constraint.param: constraint is not None,
        }
        return [name for name, is_given in wishes.items() if is_given]

    def append(self, token_id: int) -> None:
        """`token_id` was chosen and belongs to the request now."""
        self.token_ids.append(token_id)
        self.position += 1
        for processor in self.processors:
            processor.append(token_id)
