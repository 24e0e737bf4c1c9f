"""Constraints of requests, checked and compiled before anything is admitted; in threads where a loop must not wait.

Knows the grammar room and the tokenizer's special tokens. llguidance is loaded when the first constraint comes.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from msgspec.structs import replace

from kvik.config.structured_outputs import StructuredOutputsConfig
from kvik.errors import InvalidRequestError
from kvik.sampling_params import SamplingParams
from kvik.structured_outputs import StructuredOutputs
from kvik.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from kvik.grammar.compiler import GrammarCompiler

MAX_CACHED_GRAMMAR_BYTES = 8 << 20
"""Of grammars, good and bad, that are remembered."""
_NUM_THREADS = 2
"""One grammar that takes its time leaves room for the others."""


class GrammarChecks:
    """`check`, or `check_async` in an event loop: parameters in, parameters with the compiled constraint out."""

    def __init__(self, config: StructuredOutputsConfig, tokenizer: Tokenizer | None) -> None:
        self._config = config
        self._tokenizer = tokenizer
        self._compiler: GrammarCompiler | None = None
        self._threads = ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="grammar-check")

    def check(self, params: SamplingParams) -> SamplingParams:
        """Raises `InvalidRequestError` saying what is wrong with the constraint, and where."""
        asked = params.structured_outputs
        return params if asked is None else self._with(params, self._made_compiler().compile(asked))

    async def check_async(self, params: SamplingParams) -> SamplingParams:
        """`check`, in a thread unless the same constraint came before, within --max-compile-s."""
        asked = params.structured_outputs
        if asked is None:
            return params
        compiled = self._compiler.cached(asked) if self._compiler is not None else None
        if compiled is None:
            compiled = await self._compile_in_thread(asked)
        return self._with(params, compiled)

    @property
    def num_cached_bytes(self) -> int:
        """Of grammars that are remembered."""
        return 0 if self._compiler is None else self._compiler.num_cached_chars

    async def _compile_in_thread(self, asked: StructuredOutputs) -> StructuredOutputs:
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._threads, lambda: self._made_compiler().compile(asked))
        limit_s = self._config.limits.max_compile_s
        try:
            return await asyncio.wait_for(work, limit_s)
        except TimeoutError:
            raise InvalidRequestError(
                f"{asked.param} could not be checked within {limit_s:g} seconds (--max-compile-s); make it simpler",
                param=asked.param,
            ) from None

    def _made_compiler(self) -> GrammarCompiler:
        """Two threads may make one each; the second is kept, and both are good."""
        if self._compiler is None:
            from kvik.grammar.compiler import GrammarCompiler

            self._compiler = GrammarCompiler(self._config, _special_tokens(self._tokenizer), MAX_CACHED_GRAMMAR_BYTES)
        return self._compiler

    def _with(self, params: SamplingParams, compiled: StructuredOutputs) -> SamplingParams:
        if self._config.enable_in_reasoning:
            compiled = replace(compiled, starts_after=None)
        return replace(params, structured_outputs=compiled)


def _special_tokens(tokenizer: Tokenizer | None) -> list[str]:
    if tokenizer is None:
        return []
    tokens = (tokenizer.id_to_token(token_id) for token_id in sorted(tokenizer.special_token_ids))
    return [token for token in tokens if token]
