"""Text <-> token ids. Knows no request and no model; the work is done by the `tokenizers` package."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import tokenizers

from kvik.errors import InvalidRequestError, ModelFileError
from kvik.modelfile.gguf import is_gguf, read_gguf_header
from kvik.text.tokenizer_folder import load_folder
from kvik.text.tokenizer_gguf import build_from_gguf
from kvik.text.tokenizer_parts import TokenizerParts, is_refusal

_MAX_TOKEN_ID = 2**32 - 1


class Tokenizer:
    """One model's tokenizer. Encoding and decoding release the GIL, so they may run in threads."""

    def __init__(self, parts: TokenizerParts) -> None:
        self.backend: tokenizers.Tokenizer = parts.backend
        self.chat_template = parts.chat_template
        self.tool_chat_template = parts.tool_chat_template
        self.bos_token = parts.bos_token
        self.eos_token = parts.eos_token
        self.bos_token_id = None if parts.bos_token is None else self.backend.token_to_id(parts.bos_token)
        self.eos_token_id = None if parts.eos_token is None else self.backend.token_to_id(parts.eos_token)

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """From a Hugging Face folder (its tokenizer.json) or a .gguf file (its metadata).

        Raises ModelFileError where there is none, or none that can be read.
        """
        place = Path(path).expanduser()
        if place.is_dir():
            return cls(load_folder(place))
        if not place.is_file():
            raise ModelFileError(f"no such tokenizer: {path}. Give the path of a Hugging Face folder or a .gguf file")
        if place.suffix != ".gguf" and not is_gguf(place):
            raise ModelFileError(f"{place} is no .gguf file; give the folder that holds its tokenizer.json")
        return cls(build_from_gguf(read_gguf_header(place)))

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Token ids of `text`, with BOS and EOS where this tokenizer adds them and `add_special_tokens` is set.

        Special tokens written out in the text become their ids. Raises InvalidRequestError for text that is not
        Unicode (half of a surrogate pair, which JSON can express), and for text that this tokenizer has no tokens for
        and no token that stands for such.
        """
        try:
            return self.backend.encode(text, add_special_tokens=add_special_tokens).ids
        except BaseException as error:
            if not is_refusal(error):
                raise
            half = next((index for index, char in enumerate(text) if "\ud800" <= char <= "\udfff"), None)
            if half is None:
                raise InvalidRequestError(f"this model's tokenizer has no tokens for the text: {error}") from error
            raise InvalidRequestError(
                f"the text is not valid Unicode: its character {half} is half of a surrogate pair"
            ) from None

    def encode_batch(self, texts: list[str], add_special_tokens: bool = True) -> list[list[int]]:
        """`encode` of each text, by several threads at once and without a return to Python in between."""
        try:
            found = self.backend.encode_batch_fast(texts, add_special_tokens=add_special_tokens)
        except BaseException as error:
            if not is_refusal(error):
                raise
            # Say which text it is, and why.
            return [self.encode(text, add_special_tokens) for text in texts]
        return [encoding.ids for encoding in found]

    def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str:
        """Text of `ids`. Bytes that form no character become U+FFFD; unknown ids become nothing."""
        return self.backend.decode(ids, skip_special_tokens=skip_special_tokens)

    def id_to_token(self, token_id: int) -> str | None:
        """The token as the vocabulary spells it, or None where no token has this id."""
        return self.backend.id_to_token(token_id) if 0 <= token_id <= _MAX_TOKEN_ID else None

    def has_id(self, token_id: int) -> bool:
        return self.id_to_token(token_id) is not None

    @cached_property
    def vocab_size(self) -> int:
        """Number of tokens, added ones included. A model's own vocabulary is often padded beyond it."""
        return self.backend.get_vocab_size(with_added_tokens=True)

    @cached_property
    def special_token_ids(self) -> frozenset[int]:
        """Ids that `skip_special_tokens` leaves out."""
        added = self.backend.get_added_tokens_decoder()
        return frozenset(token_id for token_id, token in added.items() if token.special)

    @cached_property
    def special_tokens(self) -> dict[str, int]:
        """Texts and ids of the tokens that `skip_special_tokens` leaves out."""
        added = self.backend.get_added_tokens_decoder()
        return {token.content: token_id for token_id, token in added.items() if token.special}

    def token_id(self, token: str) -> int | None:
        """The id of the token that the vocabulary spells so, or None."""
        return self.backend.token_to_id(token)

    @cached_property
    def max_chars_per_token(self) -> int:
        """Characters of the longest token: text of n characters has at least n / this many tokens."""
        return max(map(len, self.backend.get_vocab(with_added_tokens=True)), default=1)
