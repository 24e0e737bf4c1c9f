"""Compiled grammars over one model's vocabulary. Knows no request and no thread."""

from __future__ import annotations

import time
from collections import OrderedDict

from llguidance import LLMatcher, LLTokenizer

from kvik.config import ModelConfig
from kvik.errors import KvikError
from kvik.grammar.digits import Digits
from kvik.grammar.limits import parser_limits
from kvik.grammar.vocabulary import load_vocabulary
from kvik.telemetry.log import get_logger

logger = get_logger(__name__)

MAX_CACHED = 64
"""Compiled grammars that are kept; each may take some megabytes."""


class Matchers:
    """To be used from one thread. Reads the vocabulary when it is made, which takes a tenth of a second or more."""

    def __init__(self, model: ModelConfig) -> None:
        """Raises `ModelFileError`."""
        started = time.perf_counter()
        spec = model.spec
        self._vocabulary: LLTokenizer = load_vocabulary(model.tokenizer, spec.vocab_size, spec.eos_token_ids)
        self.digits = Digits.of(self._vocabulary)
        self._cache: OrderedDict[str, LLMatcher] = OrderedDict()
        logger.info("Reading the vocabulary for grammars took %.2f seconds", time.perf_counter() - started)

    def matcher(self, compiled: str) -> LLMatcher:
        """One that stands at the start of an answer. Raises `KvikError` for a grammar that is none."""
        first = self._cache.get(compiled)
        if first is None:
            first = LLMatcher(self._vocabulary, compiled, log_level=0, limits=parser_limits())
            if first.is_error():
                raise KvikError(f"the grammar cannot be used with this model: {first.get_error().strip()[:600]}")
            self._cache[compiled] = first
            if len(self._cache) > MAX_CACHED:
                self._cache.popitem(last=False)
        self._cache.move_to_end(compiled)
        return first.deep_copy()
