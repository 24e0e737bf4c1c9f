"""Fields that chat completions and completions share, and how they become `SamplingParams`.

A field's order of precedence: the request, then the server's default (the model's generation_config.json or
--override-generation-config), then the default of `SamplingParams`. Ranges are checked there, not here; here it is
types, so that /docs can show them, and counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from kvik.config.limits import RequestLimits
from kvik.errors import InvalidRequestError
from kvik.sampling_params import OutputKind, RepetitionDetection, SamplingParams
from kvik.server.structured_outputs import ConstraintFields, structured_outputs_of
from kvik.server.validation import RequestModel

Int64 = Annotated[int, Field(ge=-(2**63), lt=2**63)]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
ReturnTimings = Annotated[bool, Field(description="usage tells how long each phase of the request took")]

_WITH_SERVER_DEFAULT = (
    "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty",
)  # fmt: skip


class StreamOptions(RequestModel):
    """What a stream holds besides its text."""

    include_usage: bool | None = Field(None, description="a last chunk with the usage of the whole request")
    continuous_usage_stats: bool | None = Field(None, description="usage in every chunk; needs include_usage")


class RepetitionFields(RequestModel):
    """Ends an answer that repeats itself."""

    max_pattern_size: int = Field(description="tokens of the longest pattern that is looked for")
    min_pattern_size: int = Field(1, description="tokens of the shortest")
    min_count: int = Field(2, description="times that a pattern must follow itself")

    def to_params(self) -> RepetitionDetection | None:
        """None for a `max_pattern_size` of 0, which is off."""
        return RepetitionDetection(**self.model_dump()) if self.max_pattern_size else None


class SamplingFields(RequestModel):
    """How tokens are chosen and where an answer ends, in every API that takes the field's own names for that."""

    top_k: Int64 | None = Field(None, description="at least 1; 0 and -1 are off")
    min_p: float | None = Field(None, description="0 to 1")
    presence_penalty: float | None = Field(None, description="-2 to 2")
    frequency_penalty: float | None = Field(None, description="-2 to 2")
    repetition_penalty: float | None = Field(None, description="0.001 to 1000; 1 is off")
    seed: Int64 | None = None
    stop: str | list[str] | None = Field(None, description="up to 4 strings that end the answer")
    stop_token_ids: list[TokenId] | None = None
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False


class GenerationFields(SamplingFields, ConstraintFields):
    """Fields of every request that generates text."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    model: str | None = Field(None, description="a served name; none: the first one")
    n: Int64 | None = Field(None, description="answers per prompt; equal ones when greedy")
    temperature: float | None = Field(None, description="0 to 2; 0 is greedy")
    top_p: float | None = Field(None, description="above 0, at most 1")
    min_tokens: Int64 | None = Field(None, description="tokens before the answer may end")
    logit_bias: dict[str, float] | None = Field(None, description="token id -> -100 to 100")
    allowed_token_ids: list[TokenId] | None = None
    bad_words: list[str] | None = None
    prompt_logprobs: Int64 | None = Field(None, description="alternatives per prompt token; not in streams")
    logprob_token_ids: list[TokenId] | None = None
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stream_interval: Annotated[int, Field(ge=1, lt=2**31)] | None = Field(None, description="tokens per chunk")
    add_special_tokens: bool = True
    truncate_prompt_tokens: Int64 | None = Field(
        None, description="keep this many tokens of the prompt; -1: the model's maximum"
    )
    truncation_side: Literal["left", "right"] | None = Field(None, description="where tokens are dropped")
    priority: Int64 | None = Field(None, description="lower is sooner, with --scheduling-policy priority")
    request_id: str | None = Field(None, description="base of the answer's id; X-Request-Id wins")
    cache_salt: str | None = Field(None, description="isolates this request's entries of the prefix cache")
    repetition_detection: RepetitionFields | None = Field(None, description="finish reason: repetition")
    return_timings: ReturnTimings = False
    return_token_ids: bool | None = None
    return_tokens_as_token_ids: bool | None = Field(None, description="logprobs name tokens as token_id:N")
    user: str | None = Field(None, description="ignored")

    use_beam_search: bool | None = Field(None, description="the n likeliest answers; draws nothing; not in streams")
    length_penalty: float | None = Field(None, description="of beam search: ranks by logprob / tokens ** this")
    early_stopping: bool | None = Field(None, description="of beam search: end once n answers have ended")
    best_of: Annotated[int, Field(ge=1, lt=2**31)] | None = Field(
        None, description="sample so many and return the n likeliest; not in streams"
    )

    # Known fields of features that are not built yet; `refuse_unsupported` names them.
    kv_transfer_params: Any = None
    ec_transfer_params: Any = None
    watermarking: Any = None
    vllm_xargs: Any = None


_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "watermarking": (False,),
    "vllm_xargs": ({},),
    "tool_choice": ("none",),
    "function_call": ("none",),
    "media_io_kwargs": ({},),
    "mm_processor_kwargs": ({},),
    "thinking_token_budget": (-1,),
    "suffix": ("",),
    "modalities": (["text"],),
}
"""Values of unsupported fields that ask for what happens anyway."""

GENERATION_UNSUPPORTED = (
    "kv_transfer_params", "ec_transfer_params", "watermarking", "vllm_xargs",
)  # fmt: skip


def refuse_unsupported(request: BaseModel, names: tuple[str, ...]) -> None:
    """Raise for the first of `names` that asks for something: it is never ignored in silence."""
    for name in names:
        value = getattr(request, name)
        if value is not None and value not in _NEUTRAL.get(name, ()):
            raise InvalidRequestError(f"{name} is not supported yet; leave it out", param=name)


def check_common(request: GenerationFields, limits: RequestLimits, *, asks_logprobs: bool) -> None:
    """Counts and combinations that need no tokenizer."""
    limits.check(len(_stop_strings(request)), limits.max_stop_strings, "stop", "strings")
    if any(len(text) > limits.max_stop_string_chars for text in _stop_strings(request)):
        raise InvalidRequestError(f"a stop string may have {limits.max_stop_string_chars} characters", param="stop")
    limits.check(len(request.stop_token_ids or ()), limits.max_stop_token_ids, "stop_token_ids", "ids")
    limits.check(len(request.logit_bias or ()), limits.max_logit_bias, "logit_bias", "entries")
    limits.check(len(request.bad_words or ()), limits.max_bad_words, "bad_words", "words")
    if request.stream_options is not None and not request.stream:
        raise InvalidRequestError("stream_options need stream=true", param="stream_options")
    if request.prompt_logprobs is not None and request.stream:
        raise InvalidRequestError("prompt_logprobs are not available with stream=true", param="prompt_logprobs")
    if request.logprob_token_ids and not asks_logprobs:
        raise InvalidRequestError("logprob_token_ids need logprobs", param="logprob_token_ids")


def to_sampling_params(
    request: GenerationFields,
    server_defaults: Mapping[str, Any],
    *,
    max_tokens: int | None,
    logprobs: int | None,
    prompt_logprobs: int | None,
) -> SamplingParams:
    """The request's wishes with the server's defaults filled in. Raises `InvalidRequestError` naming the field."""
    chosen = {name: server_defaults[name] for name in _WITH_SERVER_DEFAULT if name in server_defaults}
    if request.use_beam_search:
        chosen = {}  # defaults say how to draw, and nothing is drawn
    asked = {name: getattr(request, name) for name in _WITH_SERVER_DEFAULT}
    chosen |= {name: value for name, value in asked.items() if value is not None}
    if request.use_beam_search and chosen.get("temperature") == 0:
        del chosen["temperature"]  # says what is so anyway, but would refuse n > 1
    return SamplingParams(
        **chosen,
        n=1 if request.n is None else request.n,
        seed=request.seed,
        stop=_stop_strings(request),
        stop_token_ids=list(dict.fromkeys(request.stop_token_ids or ())),
        bad_words=request.bad_words or [],
        ignore_eos=request.ignore_eos,
        max_tokens=max_tokens,
        min_tokens=request.min_tokens or 0,
        logprobs=logprobs,
        prompt_logprobs=prompt_logprobs,
        logprob_token_ids=request.logprob_token_ids,
        skip_special_tokens=request.skip_special_tokens,
        spaces_between_special_tokens=request.spaces_between_special_tokens,
        include_stop_str_in_output=request.include_stop_str_in_output,
        output_kind=OutputKind.DELTA if request.stream else OutputKind.FINAL_ONLY,
        logit_bias=_logit_bias(request.logit_bias),
        allowed_token_ids=request.allowed_token_ids,
        repetition_detection=request.repetition_detection.to_params() if request.repetition_detection else None,
        structured_outputs=structured_outputs_of(request),
    )


def _stop_strings(request: GenerationFields) -> list[str]:
    if request.stop is None:
        return []
    return [request.stop] if isinstance(request.stop, str) else request.stop


def _logit_bias(bias: dict[str, float] | None) -> dict[int, float] | None:
    if not bias:
        return None
    by_id: dict[int, float] = {}
    for key, value in bias.items():
        if not (key.isascii() and key.isdecimal() and len(key) < 10):
            raise InvalidRequestError(f"logit_bias keys must be token ids, got {key[:100]!r}", param="logit_bias")
        by_id[int(key)] = value
    return by_id
