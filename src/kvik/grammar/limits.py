"""What llguidance may spend on one grammar and one mask. Fixed, so that what passed the check passes in the engine."""

from __future__ import annotations

from llguidance import LLParserLimits

MAX_STEP_FUEL = 200_000
"""Lexer work for one mask: some 14 ms."""


def parser_limits() -> LLParserLimits:
    """Limits of the checker and of the engine alike."""
    return LLParserLimits(
        initial_lexer_fuel=1_000_000,
        step_lexer_fuel=MAX_STEP_FUEL,
        step_max_items=50_000,
        max_lexer_states=50_000,
        max_grammar_size=200_000,
        verbose_errors=False,
    )
