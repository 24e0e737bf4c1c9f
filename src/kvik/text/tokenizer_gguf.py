"""The tokenizer in a GGUF file's metadata, rebuilt for the `tokenizers` package. Knows no model.

Two kinds: "gpt2" is byte-level BPE, whose way of cutting text into words is known by a name only (see
tokenizer_splits.py); "llama" is SentencePiece BPE, whose merges are recovered from its scores.
"""

from __future__ import annotations

from typing import Any, Final

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers

from kvik.errors import ModelFileError
from kvik.modelfile.fields import Fields
from kvik.modelfile.gguf import GgufArray, GgufHeader
from kvik.telemetry.log import get_logger
from kvik.text.tokenizer_parts import TokenizerParts, is_refusal, set_bos_eos
from kvik.text.tokenizer_splits import FALLBACK_SPLIT, SPLITS, Split

logger = get_logger(__name__)

_UNKNOWN: Final = 2
_CONTROL: Final = 3
_USER_DEFINED: Final = 4
"""Values of tokenizer.ggml.token_type."""
_SPACE: Final = "\u2581"
"""How SentencePiece spells a space."""


def build_from_gguf(header: GgufHeader) -> TokenizerParts:
    """Raises ModelFileError, naming the key, for a file without a tokenizer or with one that makes no sense."""
    metadata = _TokenizerMetadata(header)
    kind = metadata.fields.read(str, "tokenizer.ggml.model")
    try:
        if kind == "gpt2":
            backend, adds_bos = _byte_level(metadata)
        elif kind == "llama":
            backend, adds_bos = _sentencepiece(metadata), True
        else:
            raise metadata.error("model", f"is {kind!r}; supported are 'gpt2' and 'llama'")
        _add_special_tokens(backend, metadata)
    except ModelFileError:
        raise
    except BaseException as error:
        if not is_refusal(error):
            raise
        raise ModelFileError(f"{header.path}: the tokenizer cannot be built: {error}") from error
    bos, eos = metadata.token("bos_token_id"), metadata.token("eos_token_id")
    if metadata.flag("add_bos_token", adds_bos) or metadata.flag("add_eos_token", False):
        set_bos_eos(
            backend,
            bos if metadata.flag("add_bos_token", adds_bos) else None,
            eos if metadata.flag("add_eos_token", False) else None,
        )
    names = ("tokenizer.chat_template", "tokenizer.chat_template.tool_use")
    template, tool_template = [metadata.fields.read_nullable(str, name) for name in names]
    return TokenizerParts(backend, bos, eos, template, tool_template)


class _TokenizerMetadata:
    """The tokenizer.* keys of one file, checked."""

    def __init__(self, header: GgufHeader) -> None:
        self.fields = Fields(header.metadata, str(header.path))
        self.architecture = self.fields.read(str, "general.architecture")
        self.tokens: list[str] = self._array("tokens")
        if not self.tokens or not all(isinstance(token, str) for token in self.tokens[:1]):
            raise self.error("tokens", "must be a list of strings that is not empty")
        self.token_types: list[int] = self._array("token_type", [1] * len(self.tokens))
        if len(self.token_types) != len(self.tokens):
            raise self.error("token_type", f"has {len(self.token_types)} entries for {len(self.tokens)} tokens")

    def error(self, name: str, problem: str) -> ModelFileError:
        return self.fields.error(f"tokenizer.ggml.{name}", problem)

    def flag(self, name: str, default: bool) -> bool:
        return self.fields.read(bool, f"tokenizer.ggml.{name}", default)

    def token(self, name: str) -> str | None:
        """The token whose id is in the key `name`."""
        ids = self.fields.token_ids(f"tokenizer.ggml.{name}")
        if ids and ids[0] >= len(self.tokens):
            raise self.error(name, f"is {ids[0]}, outside the {len(self.tokens)} tokens")
        return self.tokens[ids[0]] if ids else None

    def scores(self) -> list[float]:
        scores = self._array("scores")
        if len(scores) != len(self.tokens):
            raise self.error("scores", f"has {len(scores)} entries for {len(self.tokens)} tokens")
        return scores

    def merges(self) -> list[tuple[str, str]] | None:
        """Pairs of tokens that become one, best first; None where the file lists none."""
        merges: list[str] = self._array("merges", [])
        pairs = [tuple(merge.split(" ")) for merge in merges]
        if any(len(pair) != 2 for pair in pairs):
            raise self.error("merges", "must be pairs of tokens with one space between")
        return pairs or None  # type: ignore[return-value]

    def vocabulary(self) -> dict[str, int]:
        """Token -> id. Of tokens spelled alike the first counts."""
        vocabulary = dict(zip(reversed(self.tokens), range(len(self.tokens) - 1, -1, -1), strict=True))
        if len(vocabulary) != len(self.tokens):
            logger.warning("%s: %d tokens repeat others", self.fields.source, len(self.tokens) - len(vocabulary))
        return vocabulary

    def _array(self, name: str, default: list[Any] | None = None) -> list[Any]:
        value = self.fields.values.get(f"tokenizer.ggml.{name}")
        if isinstance(value, GgufArray):
            return value.values
        if value is None and default is not None:
            return default
        raise self.error(name, "is missing" if value is None else "must be a list")


def _byte_level(metadata: _TokenizerMetadata) -> tuple[tokenizers.Tokenizer, bool]:
    """The tokenizer, and whether it puts BOS before a text unless told otherwise."""
    split = _split(metadata)
    merges = metadata.merges()
    if merges is None:
        raise metadata.error("merges", "is missing")
    model = models.BPE(vocab=metadata.vocabulary(), merges=merges, ignore_merges=split.ignore_merges)
    backend = tokenizers.Tokenizer(model)
    if split.normalizes_nfc:
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = split.pre_tokenizer()
    backend.decoder = decoders.ByteLevel()
    return backend, split.adds_bos


def _split(metadata: _TokenizerMetadata) -> Split:
    name = metadata.fields.read(str, "tokenizer.ggml.pre", "")
    if name not in SPLITS:
        logger.warning(
            "%s: tokenizer.ggml.pre is %r, which is not known; text is cut as for GPT-2, and some of it "
            "may become other tokens than the model learned. Name the model's own tokenizer with --tokenizer",
            metadata.fields.source,
            name,
        )
    return SPLITS.get(name, FALLBACK_SPLIT)


def _sentencepiece(metadata: _TokenizerMetadata) -> tokenizers.Tokenizer:
    is_gemma = metadata.architecture.startswith("gemma")
    if is_gemma:
        # Gemma's files have runs of spaces as such, but they meet the merges as SentencePiece spells them.
        metadata.tokens = [token if token.strip(" ") else _SPACE * len(token) for token in metadata.tokens]
    vocabulary = metadata.vocabulary()
    # Gemma's scores say nothing; its tokens stand in the order in which they were merged.
    merges = metadata.merges() or recover_merges(metadata.tokens, vocabulary, None if is_gemma else metadata.scores())
    unknown = metadata.token("unknown_token_id")
    model = models.BPE(vocab=vocabulary, merges=merges, unk_token=unknown, fuse_unk=True, byte_fallback=True)
    backend = tokenizers.Tokenizer(model)
    adds_space = metadata.flag("add_space_prefix", True)
    scheme = "first" if adds_space else "never"
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme=scheme, split=False)
    steps = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if adds_space else steps)
    return backend


def recover_merges(tokens: list[str], vocabulary: dict[str, int], scores: list[float] | None) -> list[tuple[str, str]]:
    """The merges that a SentencePiece BPE vocabulary implies: each token, cut in two tokens in all ways.

    Best first: by falling score (by position without scores), then by falling length of the left part.
    """
    merges: list[tuple[str, str]] = []
    token_ids: list[int] = []
    for token_id, token in enumerate(tokens):  # a quarter of a million tokens in Gemma: keep this loop plain
        for cut in range(len(token) - 1, 0, -1):
            left = token[:cut]
            if left in vocabulary:
                right = token[cut:]
                if right in vocabulary:
                    merges.append((left, right))
                    token_ids.append(token_id)
    if scores is None:
        return merges
    keys = [
        (-scores[token_id], -len(left), -len(right)) for token_id, (left, right) in zip(token_ids, merges, strict=True)
    ]
    return [merges[index] for index in sorted(range(len(merges)), key=keys.__getitem__)]


def _add_special_tokens(backend: tokenizers.Tokenizer, metadata: _TokenizerMetadata) -> None:
    """Have control tokens and user-defined ones found whole in a text; control tokens vanish from decoded text."""
    special = [token for name in ("bos_token_id", "eos_token_id") if (token := metadata.token(name)) is not None]
    user_defined = []
    for token, token_type in zip(metadata.tokens, metadata.token_types, strict=True):
        if token_type in (_CONTROL, _UNKNOWN):
            special.append(token)
        elif token_type == _USER_DEFINED and token.strip(_SPACE):  # runs of spaces come about by merging
            user_defined.append(token)
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in dict.fromkeys(special)])
    backend.add_tokens([AddedToken(token, normalized=False, special=False) for token in user_defined])
