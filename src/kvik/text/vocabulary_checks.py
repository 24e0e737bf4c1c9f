"""Checks of sampling parameters that need the size of the vocabulary or the server's limits."""

from __future__ import annotations

from collections.abc import Iterable

from kvik.errors import InvalidRequestError
from kvik.sampling_params import SamplingParams

MAX_STOP_STRINGS = 4
MAX_STOP_STRING_CHARS = 1024


def check_token_ids(param: str, ids: Iterable[int], vocab_size: int) -> None:
    """Each id must be an integer of the vocabulary; the message names the first that is not, and where it is."""
    for position, i in enumerate(ids):
        if type(i) is not int:
            raise InvalidRequestError(f"{param} must hold integers, got {i!r} at {position}", param=param)
        if not 0 <= i < vocab_size:
            raise InvalidRequestError(
                f"{param} holds token id {i} at {position}, but the vocabulary has ids 0 to {vocab_size - 1}",
                param=param,
            )


def check_vocabulary(params: SamplingParams, vocab_size: int) -> None:
    """All token ids that a request names."""
    check_token_ids("stop_token_ids", params.stop_token_ids, vocab_size)
    check_token_ids("logit_bias", params.logit_bias or (), vocab_size)
    check_token_ids("allowed_token_ids", params.allowed_token_ids or (), vocab_size)
    check_token_ids("logprob_token_ids", params.logprob_token_ids or (), vocab_size)


def check_logprobs(params: SamplingParams, max_logprobs: int, vocab_size: int) -> None:
    """`logprobs` and `prompt_logprobs` within --max-logprobs; -1 in either place means the whole vocabulary."""
    limit = vocab_size if max_logprobs == -1 else max_logprobs
    for param, asked in (("logprobs", params.logprobs), ("prompt_logprobs", params.prompt_logprobs)):
        count = vocab_size if asked == -1 else asked
        if count is not None and count > limit:
            raise InvalidRequestError(
                f"{param} must be at most {limit}, got {asked}"
                f"{f' ({vocab_size} tokens)' if asked == -1 else ''}; the limit is the server's --max-logprobs",
                param=param,
            )


def check_stop_strings(params: SamplingParams) -> None:
    if len(params.stop) > MAX_STOP_STRINGS:
        raise InvalidRequestError(
            f"stop must hold at most {MAX_STOP_STRINGS} strings, got {len(params.stop)}", param="stop"
        )
    longest = max((len(s) for s in params.stop), default=0)
    if longest > MAX_STOP_STRING_CHARS:
        raise InvalidRequestError(
            f"stop strings must have at most {MAX_STOP_STRING_CHARS} characters, got {longest}", param="stop"
        )
