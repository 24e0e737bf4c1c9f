"""What one row of logits comes to: a token, or why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kvik.messages import TokenLogprobs

UNSOUND = "the model's logits for this request hold NaN or infinity; its weights or its prompt may be damaged"


class SampledToken(NamedTuple):
    """What one row got: a token, or an error that ends its request."""

    token_id: int
    """-1 with an error."""
    logprobs: TokenLogprobs | None
    error: str | None
    error_param: str | None = None
    """The request's field that led to the error; None where the model did."""


FAILED = SampledToken(-1, None, UNSOUND)


def without_token(excluding_fields: Sequence[str], *, is_ruled_out: bool) -> SampledToken:
    """The error of a row in which nothing can be chosen; `is_ruled_out`: all of it is -inf, as these fields make it."""
    if not excluding_fields or not is_ruled_out:
        return FAILED
    *others, last = excluding_fields
    subject = f"{', '.join(others)} and {last} together rule" if others else f"{last} rules"
    return SampledToken(-1, None, f"no token is left: {subject} out the whole vocabulary here", excluding_fields[0])
