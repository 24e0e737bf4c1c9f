"""The text of one answer while its tokens arrive: decoding, stop strings, and what may be shown already.

Sole owner of an answer's half-decoded characters. Knows no logprobs and no messages.
"""

from __future__ import annotations

from collections.abc import Sequence

from kvik.sampling_params import SamplingParams
from kvik.text.incremental_decoder import IncrementalDecoder
from kvik.text.stop_strings import StopMatch, StopStrings
from kvik.text.tokenizer import Tokenizer


class Detokenizer:
    """One answer. `tokenizer` None, or `detokenize=False`: the text stays empty."""

    def __init__(self, tokenizer: Tokenizer | None, prompt_token_ids: Sequence[int], params: SamplingParams) -> None:
        self._decoder = None
        if tokenizer is not None and params.detokenize:
            self._decoder = _make_decoder(tokenizer, prompt_token_ids, params)
        self._stops = StopStrings(params.stop)
        self._include_stop = params.include_stop_str_in_output
        self._min_tokens = params.min_tokens
        self._num_tokens = 0
        self._text = ""
        self._num_searched = 0
        self._finished = False

    def push(self, token_ids: Sequence[int], *, ends_with_stop_token: bool = False) -> tuple[int, str | None]:
        """Take new tokens. Returns how many of them the answer keeps, and the stop string that ended it, or None.

        The text of a stop token is left out, unless stop strings are to be shown. Text that is complete within
        the first `min_tokens` tokens is not searched. After a stop string nothing may be pushed any more.
        """
        if self._decoder is None:
            return len(token_ids), None
        num_shown = len(token_ids) - (ends_with_stop_token and not self._include_stop)
        for num_kept, token_id in enumerate(token_ids[:num_shown], start=1):
            self._text += self._decoder.push(token_id)
            self._num_tokens += 1
            if (match := self._search()) is not None:
                return num_kept, self._end_at(match)
        return len(token_ids), None

    def finish(self) -> str | None:
        """Show all that is held back; the stop string that this text completes, or None."""
        if self._decoder is not None and not self._finished:
            self._text += self._decoder.flush()
            self._finished = True
            if (match := self._search()) is not None:
                return self._end_at(match)
        return None

    @property
    def text(self) -> str:
        """All text that is certain to stay."""
        if self._finished or self._include_stop or not self._stops:
            return self._text
        return self._text[: len(self._text) - self._stops.num_held(self._text)]

    def _search(self) -> StopMatch | None:
        match = None
        if self._stops and self._num_tokens > self._min_tokens:
            match = self._stops.find(self._text, self._num_searched)
        self._num_searched = len(self._text)
        return match

    def _end_at(self, match: StopMatch) -> str:
        self._text = self._text[: match.end if self._include_stop else match.start]
        self._finished = True
        return match.stop


def _make_decoder(tokenizer: Tokenizer, prompt_token_ids: Sequence[int], params: SamplingParams) -> IncrementalDecoder:
    if params.skip_special_tokens:
        return IncrementalDecoder(tokenizer.backend, prompt_token_ids, skipped_ids=tokenizer.special_token_ids)
    if params.spaces_between_special_tokens:
        return IncrementalDecoder(tokenizer.backend, prompt_token_ids)
    added = {i: token.content for i, token in tokenizer.backend.get_added_tokens_decoder().items()}
    return IncrementalDecoder(tokenizer.backend, prompt_token_ids, added_tokens=added)
