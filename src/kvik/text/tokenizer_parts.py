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


def is_refusal(error: BaseException) -> bool:
    """Whether the `tokenizers` package may have raised this about its input: a plain Exception, or, where its native
    code has panicked, something that is no Exception at all."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def set_bos_eos(backend: tokenizers.Tokenizer, bos: str | None, eos: str | None) -> None:
    """Have `backend` put `bos` before and `eos` behind each text; None puts nothing there. Both must be tokens."""
    # In a template they go by other names: there, a colon in a token would have a meaning.
    named = {name: token for name, token in (("bos", bos), ("eos", eos)) if token is not None}
    special = [{"id": name, "ids": [backend.token_to_id(token)], "tokens": [token]} for name, token in named.items()]
    single = [*(["bos"] if "bos" in named else []), "$A", *(["eos"] if "eos" in named else [])]
    backend.post_processor = TemplateProcessing(single=single, special_tokens=special)
