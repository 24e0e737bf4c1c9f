"""A tokenizer of 256 bytes, a few longer tokens and some special ones, small enough to count on one's fingers.

Ids: 0 to 255 are the bytes; then `_MERGES` in order; then `SPECIAL` in order.
"""

from __future__ import annotations

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers

from kvik.text.tokenizer import Tokenizer
from kvik.text.tokenizer_parts import TokenizerParts

SPECIAL = ("<|start|>", "<|end|>", "<|eot|>")
_MERGES = ((b" ", b"h"), (b"e", b"l"), (b"l", b"o"), (b" h", b"el"), (b" hel", b"lo"), (b"\xe2", b"\x82"))
"""The last one is two thirds of a euro sign."""
BOS, EOS, EOT = 262, 263, 264
HELLO, TWO_THIRDS_OF_EURO = 260, 261
"""The token " hello", and the first two bytes of a euro sign."""
VOCAB_SIZE = 265


def byte_tokenizer(chat_template: str | None = None) -> Tokenizer:
    """A fresh one."""
    letters = _byte_letters()
    merges = [("".join(letters[b] for b in left), "".join(letters[b] for b in right)) for left, right in _MERGES]
    vocab = {letters[b]: b for b in range(256)}
    vocab |= {left + right: 256 + i for i, (left, right) in enumerate(merges)}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    return Tokenizer(TokenizerParts(backend, "<|start|>", "<|end|>", chat_template))


def _byte_letters() -> list[str]:
    """The printable letter that byte-level BPE writes for each byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(b) if b in printable else chr(next(others)) for b in range(256)]
