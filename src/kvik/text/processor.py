"""What a client asked -> what the engine gets: token ids, checked parameters, one `NewRequest` per answer.

Knows the tokenizer, the vocabulary's size and the context length; knows no HTTP, no chat and no sockets. All that
a client can have got wrong about one generation is said here, before anything is sent.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace as with_fields
from typing import Literal

from msgspec.structs import replace

from kvik.config import ModelConfig
from kvik.config.structured_outputs import StructuredOutputsConfig
from kvik.errors import InvalidRequestError
from kvik.messages import LoraRequest, NewRequest
from kvik.sampling_params import SamplingParams
from kvik.text.bad_words import tokenize_bad_words
from kvik.text.grammar_checks import GrammarChecks
from kvik.text.length_limits import check_text_length, check_token_count, resolve_max_tokens, truncate
from kvik.text.tokenizer import Tokenizer
from kvik.text.vocabulary_checks import check_logprobs, check_stop_strings, check_token_ids, check_vocabulary

_LONG_TEXT_CHARS = 8192
"""From here on, tokenizing takes longer than an event loop should wait (some milliseconds)."""
_TEXTS_AT_ONCE = 64
"""Of a request with many prompts: so many are tokenized before others get their turn."""
_MAX_CACHE_SALT_CHARS = 128


@dataclass(frozen=True, slots=True)
class PromptOptions:
    """How a prompt becomes token ids."""

    add_special_tokens: bool = True
    """Of texts: add what the tokenizer adds (BOS). Chat templates bring their own."""
    truncate_prompt_tokens: int | None = None
    """Keep this many tokens; -1: as many as leave room for the answer. None: too long a prompt is refused."""
    truncation_side: Literal["left", "right"] = "left"
    """Where tokens are dropped."""


DEFAULT_PROMPT_OPTIONS = PromptOptions()


@dataclass(frozen=True, slots=True)
class TokenizedPrompt:
    """A text and its token ids, from `Processor.tokenize_async`."""

    text: str
    token_ids: list[int]


Prompt = str | list[int] | TokenizedPrompt


@dataclass(frozen=True, slots=True)
class ProcessedRequest:
    """A request that the engine can take."""

    request_id: str
    """The caller's."""
    internal_id: str
    """Unique in this process."""
    prompt: str | None
    prompt_token_ids: list[int]
    params: SamplingParams
    """Clamped, with `max_tokens`, `seed` and stop token ids resolved; of all n answers."""
    arrival_time_s: float
    engine_requests: list[NewRequest]
    """n of them, in order of the answer's index."""
    grammar_wait_s: float = 0.0
    """How long it waited until its constraint was checked and compiled."""


class Processor:
    """Makes `ProcessedRequest`s. `max_model_len` is the engine's own (`EngineFacts`), in tokens."""

    def __init__(
        self,
        config: ModelConfig,
        tokenizer: Tokenizer | None,
        max_model_len: int,
        structured_outputs: StructuredOutputsConfig = StructuredOutputsConfig(),  # noqa: B008
    ) -> None:
        self._config = config
        self._tokenizer = tokenizer
        self._max_model_len = max_model_len
        self._vocab_size = config.spec.vocab_size
        self._eos_token_id, self._more_eos_token_ids = eos_token_ids(config, tokenizer)
        self._seeds = random.Random(config.seed)
        self.grammars = GrammarChecks(structured_outputs, tokenizer)

    def process(
        self,
        prompt: str | list[int],
        params: SamplingParams,
        request_id: str,
        *,
        priority: int = 0,
        cache_salt: str | None = None,
        options: PromptOptions = DEFAULT_PROMPT_OPTIONS,
        lora: LoraRequest | None = None,
    ) -> ProcessedRequest:
        """Raises `InvalidRequestError` naming the field: `prompt`, `input_text`, `input_tokens`, `max_tokens`, ..."""
        arrival_time_s = time.monotonic()
        self._check_prompt(prompt, options)
        params = self.grammars.check(params)
        ids = self._tokenize(prompt, options) if isinstance(prompt, str) else prompt
        return self._build(prompt, ids, params, request_id, priority, cache_salt, options, arrival_time_s, lora)

    async def tokenize_async(
        self, prompts: Sequence[Prompt], options: PromptOptions = DEFAULT_PROMPT_OPTIONS
    ) -> list[Prompt]:
        """The same prompts, texts being tokenized: in bulk, in a thread. Raises `InvalidRequestError`."""
        result = list(prompts)
        texts = [(i, prompt) for i, prompt in enumerate(prompts) if isinstance(prompt, str)]
        for first in range(0, len(texts), _TEXTS_AT_ONCE):
            piece = texts[first : first + _TEXTS_AT_ONCE]
            for _, text in piece:
                self._check_prompt(text, options)
            found = await asyncio.to_thread(self._tokenize_all, [text for _, text in piece], options)
            for (i, text), ids in zip(piece, found, strict=True):
                result[i] = TokenizedPrompt(text, ids)
        return result

    async def process_async(
        self,
        prompt: Prompt,
        params: SamplingParams,
        request_id: str,
        *,
        priority: int = 0,
        cache_salt: str | None = None,
        options: PromptOptions = DEFAULT_PROMPT_OPTIONS,
        lora: LoraRequest | None = None,
    ) -> ProcessedRequest:
        """`process` for an event loop: long texts are tokenized in a thread."""
        arrival_time_s = time.monotonic()
        if not isinstance(prompt, TokenizedPrompt):
            self._check_prompt(prompt, options)
        checking_s = time.monotonic()
        params = await self.grammars.check_async(params)
        grammar_wait_s = time.monotonic() - checking_s
        text, ids = await self._text_and_ids(prompt, options)
        request = self._build(text, ids, params, request_id, priority, cache_salt, options, arrival_time_s, lora)
        return request if params.structured_outputs is None else with_fields(request, grammar_wait_s=grammar_wait_s)

    async def _text_and_ids(self, prompt: Prompt, options: PromptOptions) -> tuple[str | list[int], list[int]]:
        if isinstance(prompt, TokenizedPrompt):
            return prompt.text, prompt.token_ids
        if not isinstance(prompt, str):
            return prompt, prompt
        if len(prompt) < _LONG_TEXT_CHARS:
            return prompt, self._tokenize(prompt, options)
        return prompt, await asyncio.to_thread(self._tokenize, prompt, options)

    def _check_prompt(self, prompt: str | list[int], options: PromptOptions) -> None:
        if not prompt:
            raise InvalidRequestError("the prompt is empty; it must have at least one token", param="prompt")
        if not isinstance(prompt, str):
            if options.truncate_prompt_tokens is None:
                check_token_count(len(prompt), self._max_model_len)
            check_token_ids("prompt", prompt, self._vocab_size)
        elif self._tokenizer is None:
            raise InvalidRequestError(
                "this server runs without a tokenizer (--skip-tokenizer-init); send the prompt as token ids",
                param="prompt",
            )
        elif options.truncate_prompt_tokens is None:
            check_text_length(prompt, self._max_model_len, self._tokenizer.max_chars_per_token)

    def _tokenize(self, text: str, options: PromptOptions) -> list[int]:
        assert self._tokenizer is not None
        return self._checked(self._tokenizer.encode(text, add_special_tokens=options.add_special_tokens))

    def _tokenize_all(self, texts: list[str], options: PromptOptions) -> list[list[int]]:
        assert self._tokenizer is not None
        found = self._tokenizer.encode_batch(texts, add_special_tokens=options.add_special_tokens)
        return [self._checked(ids) for ids in found]

    def _checked(self, ids: list[int]) -> list[int]:
        """`ids` of a text."""
        if not ids:
            raise InvalidRequestError("the prompt has no tokens; it must have at least one", param="prompt")
        if max(ids) >= self._vocab_size:
            check_token_ids("prompt", ids, self._vocab_size)
        return ids

    def _build(
        self,
        prompt: str | list[int],
        ids: list[int],
        params: SamplingParams,
        request_id: str,
        priority: int,
        cache_salt: str | None,
        options: PromptOptions,
        arrival_time_s: float,
        lora: LoraRequest | None,
    ) -> ProcessedRequest:
        _check_cache_salt(cache_salt)
        _check_unicode("request_id", request_id)
        _check_unicode("cache_salt", cache_salt or "")
        max_tokens = params.max_tokens
        ids = truncate(ids, options.truncate_prompt_tokens, options.truncation_side, self._max_model_len, max_tokens)
        check_token_count(len(ids), self._max_model_len)
        resolved = self._resolve(params, len(ids))
        internal_id = f"{request_id}-{secrets.token_hex(4)}"
        eos = None if resolved.ignore_eos else self._eos_token_id
        children = [
            NewRequest(child_id, ids, child, arrival_time_s, eos, priority, cache_salt, lora)
            for child_id, child in _fan_out(internal_id, resolved)
        ]
        text = prompt if isinstance(prompt, str) else None
        return ProcessedRequest(request_id, internal_id, text, ids, resolved, arrival_time_s, children)

    def _resolve(self, params: SamplingParams, num_prompt_tokens: int) -> SamplingParams:
        """The parameters as the engine and the output side read them."""
        check_stop_strings(params)
        check_logprobs(params, self._config.max_logprobs, self._vocab_size)
        check_vocabulary(params, self._vocab_size)
        params = params.clamped()
        changes: dict[str, object] = {"max_tokens": resolve_max_tokens(params, num_prompt_tokens, self._max_model_len)}
        if not params.is_greedy and params.seed is None:
            changes["seed"] = self._seeds.getrandbits(63)
        if not params.ignore_eos and self._more_eos_token_ids:
            changes["stop_token_ids"] = list(dict.fromkeys([*params.stop_token_ids, *self._more_eos_token_ids]))
        if params.bad_words:
            changes["bad_words_token_ids"] = tokenize_bad_words(params.bad_words, self._tokenizer, self._vocab_size)
        if self._tokenizer is None:
            changes["detokenize"] = False
        return replace(params, **changes)


def eos_token_ids(config: ModelConfig, tokenizer: Tokenizer | None) -> tuple[int | None, list[int]]:
    """The EOS token proper, which is the tokenizer's if it has one, and the further ones."""
    ids = list(config.spec.eos_token_ids)
    eos = tokenizer.eos_token_id if tokenizer is not None else None
    if eos is None:
        eos = ids[0] if ids else None
    return eos, [i for i in ids if i != eos]


def _fan_out(internal_id: str, params: SamplingParams) -> list[tuple[str, SamplingParams]]:
    """Id and parameters of each answer's own request. Prompt logprobs are computed once, by the first."""
    if params.n == 1:
        return [(internal_id, params)]
    first = replace(params, n=1)
    rest = first if params.prompt_logprobs is None else replace(first, prompt_logprobs=None)
    children = [first, *(replace(rest, seed=_add_to_seed(params.seed, i)) for i in range(1, params.n))]
    return [(f"{i}_{internal_id}", child) for i, child in enumerate(children)]


def _add_to_seed(seed: int | None, index: int) -> int | None:
    """The seed of answer `index`, within 64 signed bits."""
    return None if seed is None else (seed + index + 2**63) % 2**64 - 2**63


def _check_cache_salt(salt: str | None) -> None:
    if salt is None:
        return
    if not 1 <= len(salt) <= _MAX_CACHE_SALT_CHARS or any(c in salt for c in "@/\\\0"):
        raise InvalidRequestError(
            f"cache_salt must have 1 to {_MAX_CACHE_SALT_CHARS} characters, none of them @, /, \\ or NUL",
            param="cache_salt",
        )


def _check_unicode(param: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequestError(
            f"{param} is not valid Unicode: character {error.start} is half of a surrogate pair", param=param
        ) from None
