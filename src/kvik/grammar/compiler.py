"""A request's constraint -> llguidance's notation, checked. For the API process, before anything is admitted.

The check compiles the grammar over a vocabulary of 256 bytes and the special tokens, which costs little memory and
finds what the model's own vocabulary would. Answers, good and bad, are remembered.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Iterable

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from msgspec.structs import replace

from kvik.config.structured_outputs import StructuredOutputsConfig
from kvik.errors import InvalidRequestError
from kvik.grammar.json_schema import json_grammar
from kvik.grammar.lark import choice_grammar, client_grammar, regex_grammar
from kvik.grammar.limits import parser_limits
from kvik.grammar.structural_tag import structural_tag_grammar
from kvik.grammar.vocabulary import TokenBytes
from kvik.structured_outputs import StructuredOutputs

MAX_CACHED = 512
_MAX_ERROR_CHARS = 600

Outcome = str | InvalidRequestError


class GrammarCompiler:
    """May be called from any thread; compiling releases the interpreter's lock for most of its time."""

    def __init__(
        self, config: StructuredOutputsConfig, special_tokens: Iterable[str] = (), max_cached_chars: int = 8 << 20
    ) -> None:
        """`special_tokens`: what Lark grammars may name as <token>; `max_cached_chars`: of what is remembered."""
        self._max_cached_chars = max_cached_chars
        self._config = config
        tokens = [bytes([byte]) for byte in range(256)] + [token.encode() for token in special_tokens]
        self._vocabulary = LLTokenizer(
            TokenBytes([*tokens, b"<end>"], list(range(256, len(tokens) + 1))),  # type: ignore[arg-type]
            n_vocab=len(tokens) + 1,
            slices=[],
        )
        self._mask = np.zeros((len(tokens) + 32) // 32, np.int32)
        self._cache: OrderedDict[bytes, Outcome] = OrderedDict()
        self.num_cached_chars = 0
        self._lock = threading.Lock()

    def cached(self, asked: StructuredOutputs) -> StructuredOutputs | None:
        """What `compile` returned for the same constraint before, or None. Raises what it raised."""
        with self._lock:
            outcome = self._cache.get(_key(asked))
            if outcome is not None:
                self._cache.move_to_end(_key(asked))
        return None if outcome is None else _result(asked, outcome)

    def compile(self, asked: StructuredOutputs) -> StructuredOutputs:
        """The constraint with `compiled` in place of the wish. Raises `InvalidRequestError` saying what and where."""
        done = self.cached(asked)
        if done is not None:
            return done
        try:
            outcome: Outcome = self._compile(self._with_server_options(asked))
        except InvalidRequestError as error:
            outcome = error
        self._remember(_key(asked), outcome)
        return _result(asked, outcome)

    def _with_server_options(self, asked: StructuredOutputs) -> StructuredOutputs:
        return replace(
            asked,
            disable_any_whitespace=asked.disable_any_whitespace or self._config.disable_any_whitespace,
            disable_additional_properties=(
                asked.disable_additional_properties or self._config.disable_additional_properties
            ),
        )

    def _compile(self, asked: StructuredOutputs) -> str:
        _check_options(asked, self._config.limits.max_regex_chars)
        grammar = self._notation(asked)
        self._check(grammar, asked)
        return grammar

    def _notation(self, asked: StructuredOutputs) -> str:
        limits, param = self._config.limits, asked.param
        match asked.kind:
            case "json" | "json_object":
                return json_grammar(asked, limits)
            case "regex":
                return regex_grammar(asked.regex or "", limits, param)
            case "choice":
                return choice_grammar(asked.choice or [], limits, param)
            case "grammar":
                return client_grammar(asked.grammar or "", limits, param)
            case _:
                return structural_tag_grammar(asked, limits)

    def _check(self, grammar: str, asked: StructuredOutputs) -> None:
        """Compile, and compute the first mask: some grammars only show there that they ask for too much."""
        matcher = LLMatcher(self._vocabulary, grammar, log_level=0, limits=parser_limits())
        if not matcher.is_error():
            mask = np.zeros_like(self._mask)
            matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
            if not matcher.is_error() and not mask.any():
                raise InvalidRequestError("nothing can satisfy the constraint", param=asked.param)
        if matcher.is_error():
            reason = _shortened(_own_words(matcher.get_error()))
            raise InvalidRequestError(f"the {_NAMES[asked.kind]} cannot be used: {reason}", param=asked.param)

    def _remember(self, key: bytes, outcome: Outcome) -> None:
        with self._lock:
            if key in self._cache:
                return
            self._cache[key] = outcome
            self.num_cached_chars += _num_chars(key, outcome)
            while len(self._cache) > MAX_CACHED or self.num_cached_chars > self._max_cached_chars:
                self.num_cached_chars -= _num_chars(*self._cache.popitem(last=False))


_NAMES = {
    "json": "JSON schema", "json_object": "JSON schema", "regex": "regular expression", "choice": "choice",
    "grammar": "grammar", "structural_tag": "structural tag",
}  # fmt: skip


def _check_options(asked: StructuredOutputs, max_regex_chars: int) -> None:
    pattern = asked.whitespace_pattern
    if pattern is not None and (not pattern or len(pattern) > max_regex_chars):
        raise InvalidRequestError(
            f"whitespace_pattern must have 1 to {max_regex_chars} characters, got {len(pattern)}", param=asked.param
        )


def _key(asked: StructuredOutputs) -> bytes:
    """All that the outcome depends on."""
    return json.dumps(
        [getattr(asked, name) for name in asked.__struct_fields__ if name != "starts_after"], ensure_ascii=True
    ).encode()


def _result(asked: StructuredOutputs, outcome: Outcome) -> StructuredOutputs:
    if isinstance(outcome, InvalidRequestError):
        raise InvalidRequestError(outcome.message, param=outcome.param)
    return StructuredOutputs(compiled=outcome, starts_after=asked.starts_after, param=asked.param)


def _num_chars(key: bytes, outcome: Outcome) -> int:
    return len(key) + (len(outcome) if isinstance(outcome, str) else len(outcome.message))


def _own_words(error: str) -> str:
    """Of an error in a schema what is wrong with it, without the notation that the schema was put into."""
    _, found, reason = error.partition("failed to compile JSON schema: ")
    return reason.partition("\n   1 | ")[0] if found else error


def _shortened(reason: str) -> str:
    reason = reason.strip()
    return reason if len(reason) <= _MAX_ERROR_CHARS else reason[:_MAX_ERROR_CHARS] + "..."
