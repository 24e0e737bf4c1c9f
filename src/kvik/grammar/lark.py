"""Constraints as Lark text: choices, regular expressions, and grammars that clients bring. Knows no request."""

from __future__ import annotations

import json
import re

from llguidance import regex_to_lark
from llguidance.gbnf_to_lark import gbnf_to_lark

from kvik.config.structured_outputs import GrammarLimits
from kvik.errors import InvalidRequestError

HEADER = '%llguidance {"no_forcing": true}\n'
"""Let the model choose how it spells what only the grammar decides: no tokenizer is needed then."""

_GBNF_RULE = re.compile(r"^\s*[A-Za-z][\w-]*\s*::=", re.MULTILINE)
_MAX_GBNF_NESTING = 100
"""The converter is recursive."""


def quoted(text: str) -> str:
    """A Lark string literal."""
    return json.dumps(text, ensure_ascii=False).replace("\u007f", "\\u007f")


def choice_grammar(choices: list[str], limits: GrammarLimits, param: str) -> str:
    """One of some texts. One terminal, so that the parser meets one lexeme however many there are."""
    if not choices:
        raise InvalidRequestError(f"{param}: choice must hold at least one string", param=param)
    if len(choices) > limits.max_choices:
        raise InvalidRequestError(
            f"{param}: choice may hold at most {limits.max_choices} strings (--max-choices), got {len(choices)}",
            param=param,
        )
    num_chars = sum(map(len, choices))
    if num_chars > limits.max_grammar_chars:
        raise InvalidRequestError(
            f"{param}: choice may have {limits.max_grammar_chars} characters in all (--max-grammar-chars), "
            f"got {num_chars}",
            param=param,
        )
    return HEADER + "start: CHOICE\nCHOICE: " + " | ".join(quoted(choice) for choice in dict.fromkeys(choices)) + "\n"


def regex_grammar(regex: str, limits: GrammarLimits, param: str) -> str:
    """A text that the regular expression matches as a whole; anchors at its ends say the same once more."""
    check_length(regex, limits.max_regex_chars, "--max-regex-chars", "the regular expression", param)
    return f"{HEADER}start: {regex_terminal(regex)}\n"


def regex_terminal(regex: str) -> str:
    """A regular expression as it stands in Lark text. Classes such as \\d mean ASCII."""
    return f"/{regex_to_lark(without_anchors(regex), 'dws')}/"


def without_anchors(regex: str) -> str:
    """^ and $ at the ends of an expression that is matched as a whole mean nothing, where no | stands outside."""
    inner = regex.removeprefix("^")
    if inner.endswith("$") and (len(inner) - len(inner[:-1].rstrip("\\")) - 1) % 2 == 0:
        inner = inner[:-1]
    return f"(?:{inner})" if inner != regex else regex


def client_grammar(grammar: str, limits: GrammarLimits, param: str) -> str:
    """Lark as it is, GBNF converted: its rules are written with `::=`."""
    check_length(grammar, limits.max_grammar_chars, "--max-grammar-chars", "the grammar", param)
    if not grammar.strip():
        raise InvalidRequestError(
            "the grammar is empty; it must have a rule 'start' (Lark) or 'root' (GBNF)", param=param
        )
    if not _GBNF_RULE.search(grammar):
        return HEADER + grammar
    if _nesting(grammar) > _MAX_GBNF_NESTING:
        raise InvalidRequestError(f"the grammar nests more than {_MAX_GBNF_NESTING} brackets", param=param)
    try:
        return HEADER + gbnf_to_lark(grammar)
    except Exception as error:  # the converter raises plain Exception
        raise InvalidRequestError(f"the GBNF grammar cannot be read: {error}", param=param) from None


def check_length(text: str, limit: int, flag: str, what: str, param: str) -> None:
    if len(text) > limit:
        raise InvalidRequestError(
            f"{what} has {len(text)} characters, at most {limit} are allowed ({flag})", param=param
        )


def _nesting(text: str) -> int:
    """At least the depth of brackets; those in literals count too."""
    depth = deepest = 0
    for char in text:
        depth += (char == "(") - (char == ")")
        deepest = max(deepest, depth)
    return deepest
