"""Token ids, one at a time -> pieces of text whose sum is the text of all of them. Knows no stop strings.

The method of the field's streaming decoders: decode the tokens of the last piece together with the new ones, and give
out what is behind the last piece's text once that ends in a whole character. Decoding with the last piece in front
keeps what depends on a neighbour right (a leading space, a character spread over tokens).

`tokenizers.decoders.DecodeStream` does the same, 0.7 us a token faster, but cannot be asked for what it holds back
at the end, stops with an error where a decoder rewrites earlier text, and holds endless runs of broken bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

REPLACEMENT = "\ufffd"
"""What decoders put where bytes are no character (yet)."""
NUM_PROMPT_TAIL_TOKENS = 6
MAX_TOKENS_PER_CHAR = 4
"""UTF-8 has at most 4 bytes a character, and a token at least one byte."""
_MAX_PENDING_TOKENS = 16
_HARD_MAX_PENDING_TOKENS = 64


class Backend(Protocol):
    """The part of `tokenizers.Tokenizer` that is used here."""

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str: ...


class IncrementalDecoder:
    """One sequence. `added_tokens` (id -> content) is given where no space may appear between added tokens."""

    def __init__(
        self,
        backend: Backend,
        prompt_token_ids: Sequence[int] = (),
        *,
        skipped_ids: frozenset[int] = frozenset(),
        added_tokens: Mapping[int, str] | None = None,
    ) -> None:
        self._backend = backend
        self._skipped_ids = skipped_ids
        self._added_tokens = added_tokens
        self._context = [i for i in prompt_token_ids[-NUM_PROMPT_TAIL_TOKENS:] if i not in skipped_ids]
        """Tokens whose text is out already; decoded with the pending ones, for the sake of their neighbourhood."""
        self._context_text = self._decode(self._context)
        self._pending: list[int] = []
        self._last_was_added = False

    def push(self, token_id: int) -> str:
        """The text that is complete now; "" while a character is open."""
        if token_id in self._skipped_ids:
            return ""
        if self._added_tokens is not None and (text := self._push_added(token_id)) is not None:
            return text
        self._pending.append(token_id)
        text = self._decode(self._context + self._pending)
        if text.endswith(REPLACEMENT):
            return self._push_overlong()
        return self._advance(len(self._pending), text) if text != self._context_text else ""

    def flush(self) -> str:
        """What is still held back, broken characters replaced. Nothing may be pushed afterwards."""
        return self._advance(len(self._pending), self._decode(self._context + self._pending)) if self._pending else ""

    def _decode(self, ids: Sequence[int]) -> str:
        return self._backend.decode(ids, skip_special_tokens=False) if ids else ""

    def _advance(self, num_tokens: int, text: str) -> str:
        """Take the first pending tokens out; `text` is theirs with the context before it."""
        piece = self._behind_context(text, num_tokens)
        self._context = self._pending[:num_tokens]
        self._context_text = self._decode(self._context)
        self._pending = self._pending[num_tokens:]
        return piece

    def _behind_context(self, text: str, num_tokens: int) -> str:
        if text.startswith(self._context_text):
            return text[len(self._context_text) :]
        whole = self._context_text.rstrip(REPLACEMENT)
        if text.startswith(whole):  # the prompt ended within a character, which is complete now
            return text[len(whole) :]
        return self._decode(self._pending[:num_tokens])  # the decoder rewrote what is out already: go on without it

    def _push_overlong(self) -> str:
        """Broken bytes never become a character: let all go but the last few tokens, which still may."""
        if len(self._pending) <= _MAX_PENDING_TOKENS:
            return ""
        whole = self._decode(self._context + self._pending)
        for num_tokens in range(len(self._pending) - 1, len(self._pending) - 1 - MAX_TOKENS_PER_CHAR, -1):
            head = self._decode(self._context + self._pending[:num_tokens])
            tail = self._decode(self._pending[num_tokens:])
            if tail and head + tail == whole:  # no character spans the cut
                return self._advance(num_tokens, head)
        return self.flush() if len(self._pending) > _HARD_MAX_PENDING_TOKENS else ""

    def _push_added(self, token_id: int) -> str | None:
        """The content of an added token that follows another one; None for all other tokens."""
        content = (self._added_tokens or {}).get(token_id)
        follows, self._last_was_added = self._last_was_added, content is not None
        if content is None or not follows:
            return None
        held = self.flush()
        self._context, self._context_text = [token_id], self._decode([token_id])
        return held + content
