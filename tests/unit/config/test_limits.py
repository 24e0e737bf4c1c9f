"""What clients can multiply is counted, and the message says what is accepted."""

from __future__ import annotations

import pytest

from kvik.config.limits import RequestLimits
from kvik.errors import ConfigError, InvalidRequestError


def test_up_to_the_limit_is_accepted() -> None:
    limits = RequestLimits(max_n=4, max_sequences=8)
    limits.check(4, 4, "stop", "strings")
    limits.check_sequences(2, 4)


@pytest.mark.parametrize(
    ("num_prompts", "n", "says"), [(1, 5, "n may be at most 4, got 5"), (3, 4, "at most 8, got 3 x 4")]
)
def test_more_sequences_are_refused_by_name(num_prompts: int, n: int, says: str) -> None:
    with pytest.raises(InvalidRequestError, match=says) as caught:
        RequestLimits(max_n=4, max_sequences=8).check_sequences(num_prompts, n)
    assert caught.value.param == "n"


def test_a_limit_that_lets_nothing_through_is_refused() -> None:
    with pytest.raises(ConfigError, match="--max-body-bytes takes 1 or more, got 0"):
        RequestLimits(max_body_bytes=0)
