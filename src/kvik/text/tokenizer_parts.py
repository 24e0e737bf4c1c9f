"""What the readers of tokenizer files hand to Tokenizer. Knows no file."""

from __future__ import annotations

from dataclasses import dataclass

import tokenizers
from tokenizers.processors import TemplateProcessing


@dataclass(frozen=True)
class TokenizerParts:
    backend: tokenizers.Tokenizer
    bos_token: str | None
    eos_token: str | None
    """Tokens as the vocabulary spells them; None where the model has none."""
    chat_template: str | None
    tool_chat_template: str | None = None
    """For conversations with tools, where that is another one."""


def set_bos_eos(backend: tokenizers.Tokenizer, bos: str | None, eos: str | None) -> None:
    """Have `backend` put `bos` before and `eos` behind each text; None puts nothing there. Both must be tokens."""
    ids = {token: backend.token_to_id(token) for token in (bos, eos) if token is not None}
    single = [*([bos] if bos else []), "$A", *([eos] if eos else [])]
    backend.post_processor = TemplateProcessing(single=single, special_tokens=list(ids.items()))
