"""How byte-level tokenizers cut text into words before merging, by the names that GGUF files give these ways.

The patterns are each model family's own, part of what its tokens mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tokenizers import Regex, pre_tokenizers

_LLAMA3: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2: Final = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_TEKKEN: Final = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Split:
    """One way of cutting, and what goes with it in the models that use it."""

    pattern: str | None = None
    """None is GPT-2's pattern, which the package has built in."""
    single_digits: bool = False
    """Cut digits apart before anything else."""
    ignore_merges: bool = False
    """A word that is a token is that token, whether or not merges lead there."""
    normalizes_nfc: bool = False
    adds_bos: bool = False
    """Unless the file says otherwise."""

    def pre_tokenizer(self) -> pre_tokenizers.PreTokenizer:
        steps: list[pre_tokenizers.PreTokenizer] = []
        if self.single_digits:
            steps.append(pre_tokenizers.Digits(individual_digits=True))
        if self.pattern is not None:
            steps.append(pre_tokenizers.Split(Regex(self.pattern), behavior="isolated"))
        steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=self.pattern is None))
        return steps[0] if len(steps) == 1 else pre_tokenizers.Sequence(steps)


FALLBACK_SPLIT: Final = Split()
_SMOLLM_SPLIT: Final = Split(single_digits=True)
_LLAMA3_SPLIT: Final = Split(_LLAMA3, ignore_merges=True, adds_bos=True)
_QWEN2_SPLIT: Final = Split(_QWEN2, normalizes_nfc=True)

SPLITS: Final = {
    "default": FALLBACK_SPLIT,
    "gpt-2": FALLBACK_SPLIT,
    "gpt2": FALLBACK_SPLIT,
    "phi-2": FALLBACK_SPLIT,
    "smollm": _SMOLLM_SPLIT,
    "starcoder": _SMOLLM_SPLIT,
    "refact": _SMOLLM_SPLIT,
    "command-r": _SMOLLM_SPLIT,
    "llama-bpe": _LLAMA3_SPLIT,
    "llama3": _LLAMA3_SPLIT,
    "llama-v3": _LLAMA3_SPLIT,
    "smaug-bpe": _LLAMA3_SPLIT,
    "qwen2": _QWEN2_SPLIT,
    "deepseek-r1-qwen": Split(_QWEN2, adds_bos=True),
    "tekken": Split(_TEKKEN, ignore_merges=True, adds_bos=True),
}
