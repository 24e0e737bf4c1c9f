"""Constraints over a small vocabulary."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from llguidance import LLMatcher, LLTokenizer

from kvik.config.structured_outputs import StructuredOutputsConfig
from kvik.grammar.compiler import GrammarCompiler
from kvik.grammar.constraint import Constraint
from kvik.grammar.digits import Digits
from kvik.grammar.limits import parser_limits
from kvik.grammar.vocabulary import TokenBytes
from kvik.structured_outputs import StructuredOutputs
from support.schemas import VOCABULARY

MakeConstraint = Callable[..., Constraint]
EOS = 0
"""Byte 0, which no text of these tests has."""


@pytest.fixture(scope="session")
def vocabulary() -> LLTokenizer:
    size = len(VOCABULARY)
    return LLTokenizer(TokenBytes([*VOCABULARY, b"<end>"], [size]), n_vocab=size + 1)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def compiler() -> GrammarCompiler:
    return GrammarCompiler(StructuredOutputsConfig(), ["<|im_end|>"])


@pytest.fixture
def constrain(vocabulary: LLTokenizer, compiler: GrammarCompiler) -> MakeConstraint:
    """Keywords of `StructuredOutputs` -> a constraint; `ending_ids` are the tokens that may end an answer."""

    def make(ending_ids: tuple[int, ...] = (), prompt: tuple[int, ...] = (), **asked: object) -> Constraint:
        wish = compiler.compile(StructuredOutputs(**asked))  # type: ignore[arg-type]
        matcher = LLMatcher(vocabulary, wish.compiled or "", log_level=0, limits=parser_limits())
        assert not matcher.is_error(), matcher.get_error()
        digits = Digits.of(vocabulary) if wish.bounds_digits else None
        return Constraint(matcher, len(VOCABULARY), ending_ids, wish.starts_after or (), prompt, digits)

    return make
