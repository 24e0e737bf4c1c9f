from __future__ import annotations

from typing import Any

import pytest

from kvik.errors import InvalidRequestError
from kvik.sampling_params import SamplingParams
from kvik.text.vocabulary_checks import check_logprobs, check_stop_strings, check_token_ids, check_vocabulary


@pytest.mark.parametrize(
    "params",
    [{"stop_token_ids": [10]}, {"logit_bias": {10: 1.0}}, {"allowed_token_ids": [1, 10]}, {"logprob_token_ids": [10]}],
)
def test_ids_outside_the_vocabulary_are_named(params: dict[str, Any]) -> None:
    check_vocabulary(SamplingParams(**params), 11)
    with pytest.raises(InvalidRequestError, match=r"token id 10 .* 0 to 9") as caught:
        check_vocabulary(SamplingParams(**params), 10)
    assert caught.value.param == next(iter(params))


@pytest.mark.parametrize("ids", [[-1], [2**70], [True], ["1"], [1.0]])
def test_what_is_no_token_id(ids: list[Any]) -> None:
    with pytest.raises(InvalidRequestError, match="at 1"):
        check_token_ids("prompt", [0, *ids], 10)


@pytest.mark.parametrize(("asked", "limit", "is_fine"), [(5, 5, True), (6, 5, False), (-1, 20, False), (-1, -1, True)])
@pytest.mark.parametrize("param", ["logprobs", "prompt_logprobs"])
def test_logprobs_limit(param: str, asked: int, limit: int, is_fine: bool) -> None:
    params = SamplingParams(**{param: asked})  # type: ignore[arg-type]
    if is_fine:
        check_logprobs(params, limit, 300)
        return
    with pytest.raises(InvalidRequestError, match=f"at most {limit}, got {asked}") as caught:
        check_logprobs(params, limit, 300)
    assert caught.value.param == param


def test_stop_strings_are_few_and_short() -> None:
    check_stop_strings(SamplingParams(stop=["a"] * 4))
    for stop in (["a"] * 5, ["a" * 1025]):
        with pytest.raises(InvalidRequestError, match="at most"):
            check_stop_strings(SamplingParams(stop=stop))
