"""How the tokens of one request are chosen: the user's wishes, checked once, then carried unchanged.

Knows nothing of HTTP, of the tokenizer or of tensors. Crosses the wall inside `NewRequest`.
"""

from __future__ import annotations

import math
from enum import IntEnum
from typing import Annotated

import msgspec

from kvik.errors import InvalidRequestError
from kvik.structured_outputs import StructuredOutputs

MIN_TEMPERATURE = 0.01
"""Temperatures below this are greedy, as their limit is; after `clamped` only an exact 0 is."""
_ONE_TOKEN_TOP_P = 2.0**-24
"""The likeliest token of a vocabulary of up to 2^24 is at least so likely: it alone is the nucleus."""
_ONE_TOKEN_MIN_P = 1.0 - 2.0**-25
"""From here on min_p is 1 in fp32."""
MAX_N = 16384
MAX_LOGPROB_TOKEN_IDS = 128
MAX_REPETITION_PENALTY = 1000.0
"""And one over it the least: logits that are multiplied by more, or divided by less, would leave what fp32 can hold."""
MAX_PATTERN_SIZE = 1024
"""Tokens; sizes are tried one by one after each token."""
MAX_PATTERN_COUNT = 1024

Token = Annotated[int, msgspec.Meta(ge=0)]


class OutputKind(IntEnum):
    """What each output of a request holds."""

    CUMULATIVE = 0
    """Everything generated so far."""
    DELTA = 1
    """Only what is new."""
    FINAL_ONLY = 2
    """Nothing until the request is finished."""


class RepetitionDetection(msgspec.Struct, frozen=True, kw_only=True):
    """End an answer that repeats itself: whose last tokens are `min_count` times one pattern of so many tokens.

    Raises `InvalidRequestError` from `__post_init__`.
    """

    max_pattern_size: int
    min_pattern_size: int = 1
    min_count: int = 2

    def __post_init__(self) -> None:
        for name, least, most in (
            ("min_pattern_size", 1, MAX_PATTERN_SIZE),
            ("max_pattern_size", self.min_pattern_size, MAX_PATTERN_SIZE),
            ("min_count", 2, MAX_PATTERN_COUNT),
        ):
            value = getattr(self, name)
            _require(least <= value <= most, f"repetition_detection.{name}", value, f"from {least} to {most}")


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Parameters of one request, with the field's names and defaults.

    Raises `InvalidRequestError` from `__post_init__`, naming the field, when a value is out of range.
    Checks that need the vocabulary or the tokenizer are the `Processor`'s.
    """

    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    """0 and -1 are off."""
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: list[str] = []
    stop_token_ids: list[int] = []
    bad_words: list[str] = []
    bad_words_token_ids: list[list[int]] = []
    """`bad_words` as the tokenizer spells them; filled in by the `Processor`."""
    ignore_eos: bool = False
    max_tokens: int | None = 16
    min_tokens: int = 0
    logprobs: int | None = None
    """Number of alternatives per generated token; -1 is the whole vocabulary."""
    prompt_logprobs: int | None = None
    logprob_token_ids: list[int] | None = None
    detokenize: bool = True
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    include_stop_str_in_output: bool = False
    output_kind: OutputKind = OutputKind.CUMULATIVE
    logit_bias: dict[int, float] | None = None
    allowed_token_ids: list[int] | None = None
    skip_reading_prefix_cache: bool | None = None
    """None: read it unless `prompt_logprobs` is asked for, whose logits a cached block does not have."""
    repetition_detection: RepetitionDetection | None = None
    structured_outputs: StructuredOutputs | None = None
    """What the text of the answer must be; None: anything."""

    def __post_init__(self) -> None:
        _check_ranges(self)
        _check_combinations(self)

    @property
    def is_greedy(self) -> bool:
        return self.temperature < MIN_TEMPERATURE

    @property
    def reads_prefix_cache(self) -> bool:
        if self.skip_reading_prefix_cache is None:
            return self.prompt_logprobs is None
        return not self.skip_reading_prefix_cache

    def clamped(self) -> SamplingParams:
        """The same wishes in canonical form, as the sampler reads them.

        -1 becomes "off" or None, a tiny temperature becomes 0, biases are cut to +-100, and greedy requests lose the
        filters that cannot change an arg max. Where top_p or min_p leave one token, top_k 1 says so: of equally likely
        ones it keeps the first, as arg max does.
        """
        changes: dict[str, object] = {}
        if self.top_k == -1:
            changes["top_k"] = 0
        if self.top_p <= _ONE_TOKEN_TOP_P or self.min_p >= _ONE_TOKEN_MIN_P:
            changes |= {"top_p": 1.0, "top_k": 1, "min_p": 0.0}
        if self.seed == -1:
            changes["seed"] = None
        if self.logit_bias:
            changes["logit_bias"] = {i: max(-100.0, min(100.0, b)) for i, b in self.logit_bias.items()}
        if self.is_greedy:
            changes |= {"temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0}
        return msgspec.structs.replace(self, **changes) if changes else self


class BeamSearchParams(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Parameters of a search for the likeliest answers. Nothing is drawn, so `temperature` can only be 0.

    Raises `InvalidRequestError`, naming the field, when a value is out of range.
    """

    beam_width: int
    """Answers that are followed at once, and returned."""
    max_tokens: int | None = 16
    """None: what the context leaves."""
    min_tokens: int = 0
    ignore_eos: bool = False
    temperature: float = 0.0
    length_penalty: float = 1.0
    """Answers are ranked by (sum of logprobs) / (number of tokens ** length_penalty)."""
    early_stopping: bool = False
    """End once `beam_width` answers have ended; otherwise once no other can become better than these."""
    stop: list[str] = []
    stop_token_ids: list[int] = []
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    logprobs: int | None = None
    prompt_logprobs: int | None = None

    def __post_init__(self) -> None:
        _require(1 <= self.beam_width <= MAX_N, "beam_width", self.beam_width, f"from 1 to {MAX_N}")
        _require(self.temperature == 0, "temperature", self.temperature, "0 in beam search, which draws nothing")
        _require(math.isfinite(self.length_penalty), "length_penalty", self.length_penalty, "finite")
        self.text_params()

    def text_params(self) -> SamplingParams:
        """The same wishes about the text of an answer; checks them."""
        return SamplingParams(
            stop=self.stop,
            stop_token_ids=self.stop_token_ids,
            max_tokens=self.max_tokens,
            min_tokens=self.min_tokens,
            ignore_eos=self.ignore_eos,
            include_stop_str_in_output=self.include_stop_str_in_output,
            skip_special_tokens=self.skip_special_tokens,
            spaces_between_special_tokens=self.spaces_between_special_tokens,
            logprobs=self.logprobs,
            prompt_logprobs=self.prompt_logprobs,
        )


def _check_ranges(p: SamplingParams) -> None:
    _require(1 <= p.n <= MAX_N, "n", p.n, f"from 1 to {MAX_N}")
    _require(math.isfinite(p.temperature) and 0 <= p.temperature <= 2, "temperature", p.temperature, "from 0 to 2")
    _require(0 < p.top_p <= 1, "top_p", p.top_p, "above 0 and at most 1")
    _require(p.top_k >= -1, "top_k", p.top_k, "0 or -1 (off), or at least 1")
    _require(0 <= p.min_p <= 1, "min_p", p.min_p, "from 0 to 1")
    _require(-2 <= p.presence_penalty <= 2, "presence_penalty", p.presence_penalty, "from -2 to 2")
    _require(-2 <= p.frequency_penalty <= 2, "frequency_penalty", p.frequency_penalty, "from -2 to 2")
    most = MAX_REPETITION_PENALTY
    _require(
        1 / most <= p.repetition_penalty <= most,
        "repetition_penalty", p.repetition_penalty, f"from {1 / most:g} to {most:g}",
    )  # fmt: skip
    _require(p.seed is None or -(2**63) <= p.seed < 2**63, "seed", p.seed, "a 64-bit integer")
    _require(p.max_tokens is None or p.max_tokens >= 1, "max_tokens", p.max_tokens, "at least 1")
    _require(p.min_tokens >= 0, "min_tokens", p.min_tokens, "at least 0")
    _require(p.logprobs is None or p.logprobs >= -1, "logprobs", p.logprobs, "at least 0, or -1 for the vocabulary")
    _require(
        p.prompt_logprobs is None or p.prompt_logprobs >= -1,
        "prompt_logprobs", p.prompt_logprobs, "at least 0, or -1 for the vocabulary",
    )  # fmt: skip
    bias = p.logit_bias or {}
    _require(all(math.isfinite(b) for b in bias.values()), "logit_bias", bias, "finite numbers")


def _check_combinations(p: SamplingParams) -> None:
    if p.max_tokens is not None and p.min_tokens > p.max_tokens:
        raise InvalidRequestError(
            f"min_tokens must be at most max_tokens={p.max_tokens}, got {p.min_tokens}", param="min_tokens"
        )
    if any(not s for s in p.stop):
        raise InvalidRequestError("stop must not contain an empty string", param="stop")
    if p.stop and not p.detokenize:
        raise InvalidRequestError("stop strings need detokenize=true; use stop_token_ids instead", param="stop")
    if any(not w for w in p.bad_words):
        raise InvalidRequestError("bad_words must not contain an empty string", param="bad_words")
    if p.allowed_token_ids is not None and not p.allowed_token_ids:
        raise InvalidRequestError("allowed_token_ids must not be empty; leave it out", param="allowed_token_ids")
    if p.logprob_token_ids and len(p.logprob_token_ids) > MAX_LOGPROB_TOKEN_IDS:
        raise InvalidRequestError(
            f"logprob_token_ids may hold {MAX_LOGPROB_TOKEN_IDS} ids, got {len(p.logprob_token_ids)}",
            param="logprob_token_ids",
        )


def _require(holds: bool, param: str, value: object, accepted: str) -> None:
    if not holds:
        raise InvalidRequestError(f"{param} must be {accepted}, got {value}", param=param)
