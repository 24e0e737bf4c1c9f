"""How long prompt and answer may be: refuse, truncate when asked to, clamp. Pure arithmetic on counts of tokens."""

from __future__ import annotations

from typing import Literal

from kvik.errors import InvalidRequestError
from kvik.sampling_params import SamplingParams


def check_text_length(text: str, max_model_len: int, max_chars_per_token: int) -> None:
    """Refuse, before tokenizing it, a text that cannot fit. `param` is "input_text"."""
    max_chars = max_model_len * max_chars_per_token
    if len(text) > max_chars:
        raise InvalidRequestError(
            f"the prompt has {len(text)} characters, but the context of {max_model_len} tokens holds at most "
            f"{max_chars}; shorten the prompt",
            param="input_text",
        )


def truncate(
    ids: list[int], limit: int | None, side: Literal["left", "right"], max_model_len: int, max_tokens: int | None
) -> list[int]:
    """`limit` tokens of the prompt: the last ones for side "left", the first ones for "right".

    -1 is the longest prompt that leaves room for `max_tokens` (for one token where that is None or too much).
    """
    if limit is None:
        return ids
    if limit == -1:
        room = max_tokens if max_tokens is not None and max_tokens < max_model_len else 1
        limit = max(1, max_model_len - room)
    if not 1 <= limit <= max_model_len:
        raise InvalidRequestError(
            f"truncate_prompt_tokens must be -1 or from 1 to {max_model_len}, got {limit}",
            param="truncate_prompt_tokens",
        )
    return ids[-limit:] if side == "left" else ids[:limit]


def check_token_count(num_prompt_tokens: int, max_model_len: int) -> None:
    """Refuse a prompt that leaves no room for an answer."""
    if num_prompt_tokens > max_model_len:
        raise InvalidRequestError(
            f"the context has {max_model_len} tokens, but the prompt has {num_prompt_tokens}; shorten the prompt by "
            f"at least {num_prompt_tokens - max_model_len + 1} tokens, or set truncate_prompt_tokens",
            param="input_tokens",
        )
    if num_prompt_tokens == max_model_len:
        raise InvalidRequestError(
            f"the prompt fills the context of {max_model_len} tokens and leaves none for the answer; shorten the "
            "prompt by at least 1 token",
            param="max_tokens",
        )


def resolve_max_tokens(params: SamplingParams, num_prompt_tokens: int, max_model_len: int) -> int:
    """Tokens that the answer may have: what was asked, at most what the prompt leaves; all of it for None."""
    remaining = max_model_len - num_prompt_tokens
    if params.max_tokens is not None and params.max_tokens > max_model_len:
        raise InvalidRequestError(
            f"max_tokens must be at most the context of {max_model_len} tokens, got {params.max_tokens}; "
            f"{remaining} are left after this prompt of {num_prompt_tokens}",
            param="max_tokens",
        )
    max_tokens = remaining if params.max_tokens is None else min(params.max_tokens, remaining)
    if params.min_tokens > max_tokens:
        raise InvalidRequestError(
            f"min_tokens must be at most {max_tokens}, the tokens that this answer may have, got {params.min_tokens}",
            param="min_tokens",
        )
    return max_tokens
