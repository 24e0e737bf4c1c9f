"""How many digits a number of JSON has so far, along the bytes of an answer. Knows no token and no schema."""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_DIGITS = 18
"""In a row, before the point or behind it."""
MAX_EXPONENT_DIGITS = 3

_DIGITS_FIRST = "start: /[0-9](?s:.*)/\n"
_WORD = re.compile(rb'[0-9]+|[eE]|[-+]|["\\\n]|[^0-9eE+"\\\n-]+')


class NumberState(NamedTuple):
    """Where an answer stands after some bytes of JSON."""

    is_string: bool = False
    is_escaped: bool = False
    num_digits: int = 0
    """In a row, at the end."""
    is_exponent: bool = False

    @property
    def is_full(self) -> bool:
        """The number at the end has as many digits as it may."""
        return self.num_digits >= (MAX_EXPONENT_DIGITS if self.is_exponent else MAX_DIGITS)

    def after(self, text: bytes) -> NumberState:
        """`text` may end anywhere, within a character too. A line break ends a string: JSON has none in strings."""
        state = self
        for word in _WORD.findall(text):
            state = state._in_string(word) if state.is_string else state._outside(word)
        return state

    def _in_string(self, word: bytes) -> NumberState:
        if word == b"\n" or (word == b'"' and not self.is_escaped):
            return NumberState()
        return NumberState(is_string=True, is_escaped=word == b"\\" and not self.is_escaped)

    def _outside(self, word: bytes) -> NumberState:
        if word[0] in b"0123456789":
            return self._replace(num_digits=self.num_digits + len(word))
        if word in (b"e", b"E"):
            return NumberState(is_exponent=self.num_digits > 0)
        if word in (b"+", b"-"):
            return self._replace(num_digits=0)
        return NumberState(is_string=word == b'"')
