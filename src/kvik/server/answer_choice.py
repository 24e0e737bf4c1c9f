"""`use_beam_search`, `best_of` and what belongs to them -> how answers are chosen among more. Knows no engine."""

from __future__ import annotations

from typing import Any

from kvik.engine_client.answer_choice import AnswerChoice, BestOf
from kvik.errors import InvalidRequestError
from kvik.sampling_params import BeamSearchParams, SamplingParams
from kvik.server.fields import GenerationFields

_WITHOUT_DRAWING: dict[str, tuple[Any, ...]] = {
    "temperature": (0, 1), "top_p": (1,), "top_k": (0, -1), "min_p": (0,), "presence_penalty": (0,),
    "frequency_penalty": (0,), "repetition_penalty": (1,), "logit_bias": ({},), "allowed_token_ids": (),
    "bad_words": ([],), "logprob_token_ids": ([],), "best_of": (1,), "repetition_detection": (),
}  # fmt: skip
"""Fields that change or draw tokens, and the values that ask for neither."""


def answer_choice(body: GenerationFields, params: SamplingParams) -> AnswerChoice | None:
    """None: every answer that is generated is returned. Raises `InvalidRequestError` naming the field.

    `params` are the request's, with what the answers themselves should be like.
    """
    if body.use_beam_search:
        _check_beam_search(body, params)
        return _beam_search_params(body, params)
    if body.length_penalty not in (None, 1):
        raise InvalidRequestError("length_penalty needs use_beam_search=true", param="length_penalty")
    if body.early_stopping:
        raise InvalidRequestError("early_stopping needs use_beam_search=true", param="early_stopping")
    if body.best_of is None or body.best_of == params.n:
        return None
    if body.best_of < params.n:
        raise InvalidRequestError(f"best_of must be at least n={params.n}, got {body.best_of}", param="best_of")
    if body.stream:
        raise InvalidRequestError("best_of above n is not available with stream=true", param="best_of")
    # Asked for nothing but the likeliest token at each place, all of them would be the same.
    return None if params.is_greedy else BestOf(body.best_of)


def _check_beam_search(body: GenerationFields, params: SamplingParams) -> None:
    if body.stream:
        raise InvalidRequestError("use_beam_search is not available with stream=true", param="use_beam_search")
    for name, neutral in _WITHOUT_DRAWING.items():
        value = getattr(body, name)
        if value is not None and value not in neutral:
            raise InvalidRequestError(
                f"{name} is not possible with use_beam_search, which compares the model's own logprobs; leave it out",
                param=name,
            )
    if params.structured_outputs is not None:
        raise InvalidRequestError(
            "structured outputs and forced tool calls are not possible with use_beam_search", param="use_beam_search"
        )


def _beam_search_params(body: GenerationFields, params: SamplingParams) -> BeamSearchParams:
    return BeamSearchParams(
        beam_width=params.n,
        max_tokens=params.max_tokens,
        min_tokens=params.min_tokens,
        ignore_eos=params.ignore_eos,
        length_penalty=1.0 if body.length_penalty is None else body.length_penalty,
        early_stopping=bool(body.early_stopping),
        stop=params.stop,
        stop_token_ids=params.stop_token_ids,
        include_stop_str_in_output=params.include_stop_str_in_output,
        skip_special_tokens=params.skip_special_tokens,
        spaces_between_special_tokens=params.spaces_between_special_tokens,
        logprobs=params.logprobs,
        prompt_logprobs=params.prompt_logprobs,
    )
