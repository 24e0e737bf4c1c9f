"""What travels between a front end elsewhere and this server: token ids, sampling parameters, answers in token ids.

The sampling parameters have the names of `SamplingParams`; unknown ones are refused, since the front end is a program.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec
from pydantic import Field

from kvik.config.limits import RequestLimits
from kvik.errors import InvalidRequestError
from kvik.sampling_params import OutputKind, SamplingParams
from kvik.server.chat.protocol import ChatCompletionRequest
from kvik.server.completions.protocol import CompletionRequest
from kvik.server.fields import Int64, ReturnTimings, StreamOptions, TokenId
from kvik.server.validation import RequestModel

_DERIVED = frozenset(("output_kind", "bad_words_token_ids", "detokenize"))
"""Set by what else the request says."""
SAMPLING_FIELDS = tuple(name for name in SamplingParams.__struct_fields__ if name not in _DERIVED)
_NOT_BUILT = ("features", "content_parts", "reasoning_ended", "kv_transfer_params", "ec_transfer_params")


class GenerateRequest(RequestModel):
    """Token ids to continue."""

    token_ids: Annotated[list[TokenId], Field(min_length=1)]
    request_id: str | None = Field(None, description="id of the answer; X-Request-Id wins")
    sampling_params: dict[str, Any] = Field(
        {}, description=f"any of {', '.join(SAMPLING_FIELDS)}; the server has no defaults of its own here"
    )
    model: str | None = None
    output_mode: Literal["tokens", "text"] = Field("tokens", description="text: the answer's text beside its end")
    return_token_ids: bool | None = Field(None, description="token ids of prompt and answer, whatever output_mode is")
    return_timings: ReturnTimings = False
    stream: bool = False
    stream_options: StreamOptions | None = None
    cache_salt: str | None = None
    priority: Int64 | None = None

    # Not built yet.
    features: Any = None
    content_parts: Any = None
    reasoning_ended: Any = None
    kv_transfer_params: Any = None
    ec_transfer_params: Any = None

    @property
    def has_text(self) -> bool:
        return self.output_mode == "text"

    @property
    def has_token_ids(self) -> bool:
        return not self.has_text or bool(self.return_token_ids)


class GeneratedChoice(RequestModel):
    """One answer in token ids, as /inference/v1/generate gives it."""

    index: Annotated[int, Field(ge=0, lt=2**31)] = 0
    token_ids: list[TokenId]
    text: str | None = None
    logprobs: dict[str, Any] | None = Field(None, description="tokens named token_id:N")
    finish_reason: Literal["stop", "length", "abort", "repetition"] = "stop"
    stop_reason: int | str | None = None


class PromptLogprob(RequestModel):
    """One token at one position of a prompt."""

    logprob: Annotated[float, Field(le=0, allow_inf_nan=False)]
    rank: Annotated[int, Field(ge=1, lt=2**31)]
    decoded_token: str


class GenerateAnswer(RequestModel):
    """What /inference/v1/generate answers, as far as derendering needs it."""

    request_id: str | None = None
    prompt_logprobs: list[dict[TokenId, PromptLogprob] | None] | None = None
    choices: Annotated[list[GeneratedChoice], Field(min_length=1)]


class DerenderChatRequest(RequestModel):
    """A chat request and what its token ids were answered with."""

    request: ChatCompletionRequest
    response: GenerateAnswer


class DerenderCompletionRequest(RequestModel):
    """A completion request and what the token ids of each of its prompts were answered with."""

    request: CompletionRequest
    responses: Annotated[list[GenerateAnswer], Field(min_length=1)]


def check_built(body: GenerateRequest) -> None:
    for name in _NOT_BUILT:
        if getattr(body, name) is not None:
            raise InvalidRequestError(f"{name} is not supported yet; leave it out", param=name)
    if body.stream_options is not None and not body.stream:
        raise InvalidRequestError("stream_options need stream=true", param="stream_options")


def read_sampling_params(body: GenerateRequest, limits: RequestLimits) -> SamplingParams:
    """Raises `InvalidRequestError` naming `sampling_params.FIELD`. Without max_tokens the context is the limit."""
    given = {name: value for name, value in body.sampling_params.items() if value is not None}
    for name in given:
        if name not in SAMPLING_FIELDS:
            raise InvalidRequestError(
                f"sampling_params has no {name[:100]!r}; it has {', '.join(SAMPLING_FIELDS)}",
                param=f"sampling_params.{name[:100]}",
            )
    _check_counts(given, limits)
    derived = {
        "output_kind": OutputKind.DELTA if body.stream else OutputKind.FINAL_ONLY,
        "detokenize": body.has_text or bool(given.get("stop")),
    }
    try:
        return msgspec.convert({"max_tokens": None} | given | derived, SamplingParams, str_keys=True)
    except msgspec.ValidationError as error:
        at = re.search(r"`\$\.([a-z_]+)", str(error))
        where = f"sampling_params.{at.group(1)}" if at else "sampling_params"
        raise InvalidRequestError(f"{where}: {error}", param=where) from None
    except InvalidRequestError as error:
        raise in_sampling_terms(error) from None


def in_sampling_terms(error: InvalidRequestError) -> InvalidRequestError:
    """Name the field where the client put it."""
    if error.param not in SAMPLING_FIELDS:
        return error
    return InvalidRequestError(error.message, param=f"sampling_params.{error.param}")


def sampling_params_as_given(params: SamplingParams) -> dict[str, Any]:
    """The parameters in the form that `read_sampling_params` reads."""
    given: dict[str, Any] = msgspec.to_builtins(params, str_keys=True)
    shown = {name: value for name, value in given.items() if name not in _DERIVED}
    return shown if params.max_tokens is None else shown | {"max_tokens": params.max_tokens}


def _check_counts(given: dict[str, Any], limits: RequestLimits) -> None:
    most = {
        "stop": limits.max_stop_strings,
        "stop_token_ids": limits.max_stop_token_ids,
        "logit_bias": limits.max_logit_bias,
        "bad_words": limits.max_bad_words,
    }
    for name, limit in most.items():
        value = given.get(name)
        if isinstance(value, list | dict):
            limits.check(len(value), limit, f"sampling_params.{name}", "entries")
