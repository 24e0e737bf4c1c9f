"""Log probabilities as the engine sends them -> by token id, with each token's text. Knows no requests."""

from __future__ import annotations

from collections.abc import Sequence

from kvik.messages import TokenLogprobs
from kvik.text.incremental_decoder import MAX_TOKENS_PER_CHAR, REPLACEMENT, Backend
from kvik.text.outputs import Logprob, PositionLogprobs


class LogprobDecoder:
    """Texts of single tokens; one for all requests of a process. `backend` None: all texts are empty."""

    def __init__(self, backend: Backend | None) -> None:
        self._backend = backend
        self._texts: dict[int, str] = {}
        """At most one entry per id of the vocabulary."""

    def position(self, preceding_ids: Sequence[int], logprobs: TokenLogprobs) -> PositionLogprobs:
        """One position. `preceding_ids` are the tokens before it; the last few are enough."""
        entries = zip(logprobs.token_ids, logprobs.logprobs, logprobs.ranks, strict=True)
        return {i: Logprob(logprob, rank, self.token_text(preceding_ids, i)) for i, logprob, rank in entries}

    def token_text(self, preceding_ids: Sequence[int], token_id: int) -> str:
        """The token's own text, special tokens included.

        A token that ends within a character leaves it out; the one that completes it has it whole. A text's own U+FFFD,
        which decoders put for bytes that are no character, is left out, too.
        """
        if self._backend is None:
            return ""
        text = self._texts.get(token_id)
        if text is None:
            text = self._texts[token_id] = _decode_behind_a_word(self._backend, token_id)
        return self._complete(preceding_ids, token_id) if REPLACEMENT in text else text

    def _complete(self, preceding_ids: Sequence[int], token_id: int) -> str:
        assert self._backend is not None
        context = list(preceding_ids[-MAX_TOKENS_PER_CHAR:])
        before = self._backend.decode(context, skip_special_tokens=False) if context else ""
        after = self._backend.decode([*context, token_id], skip_special_tokens=False)
        num_common = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), len(before))
        return after[num_common:].removesuffix(REPLACEMENT)


def _decode_behind_a_word(backend: Backend, token_id: int) -> str:
    """Decode a token as it reads within a text: some decoders drop the space before a text's first token."""
    alone = backend.decode([token_id], skip_special_tokens=False)
    twice = backend.decode([token_id, token_id], skip_special_tokens=False)
    if REPLACEMENT not in twice and len(twice) > 2 * len(alone) and twice.startswith(alone):
        return twice[len(alone) :]
    return alone
