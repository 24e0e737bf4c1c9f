"""The tokenizer of a Hugging Face folder: tokenizer.json, and what tokenizer_config.json says about its use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tokenizers

from kvik.errors import ModelFileError
from kvik.modelfile.chat_template import DEFAULT, TOOL_USE, read_chat_templates
from kvik.modelfile.fields import Fields
from kvik.modelfile.json_file import read_json_object
from kvik.telemetry.log import get_logger
from kvik.text.tokenizer_parts import TokenizerParts, is_refusal, set_bos_eos

logger = get_logger(__name__)


def load_folder(folder: Path) -> TokenizerParts:
    """Raises ModelFileError for a folder without tokenizer.json, or with one that cannot be read."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ModelFileError(_no_tokenizer_message(folder))
    backend = _read_backend(path)
    settings = _read_settings(folder)
    bos = _special_token(settings, "bos_token", backend)
    eos = _special_token(settings, "eos_token", backend)
    if "add_bos_token" in settings or "add_eos_token" in settings:
        # As in transformers: said here, it replaces what tokenizer.json would put around a text.
        adds_bos = settings.read(bool, "add_bos_token", False)
        adds_eos = settings.read(bool, "add_eos_token", False)
        set_bos_eos(backend, bos if adds_bos else None, eos if adds_eos else None)
    templates = read_chat_templates(folder)
    return TokenizerParts(backend, bos, eos, templates.get(DEFAULT), templates.get(TOOL_USE))


def _read_backend(path: Path) -> tokenizers.Tokenizer:
    try:
        backend = tokenizers.Tokenizer.from_file(str(path))
    except BaseException as error:
        if not is_refusal(error):
            raise
        raise ModelFileError(f"{path} is not a usable tokenizer: {error}") from error
    # Saved with some tokenizers; here a prompt is never cut or filled up unasked.
    backend.no_truncation()
    backend.no_padding()
    return backend


def _read_settings(folder: Path) -> Fields:
    """tokenizer_config.json over special_tokens_map.json, which older folders have beside it."""
    values: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            values |= {key: value for key, value in read_json_object(folder / name).items() if value is not None}
    return Fields(values, str(folder / "tokenizer_config.json"))


def _special_token(settings: Fields, name: str, backend: tokenizers.Tokenizer) -> str | None:
    """A token's text, given as such or as an object with `content`; None where it is not in the vocabulary."""
    value = settings.values.get(name)
    token = settings.nested(name).read(str, "content") if isinstance(value, dict) else settings.read_nullable(str, name)
    if token is not None and not _is_token(token, backend):
        logger.warning("%s: %s is %r, which is not in the vocabulary; it is left out", settings.source, name, token)
        return None
    return token


def _is_token(token: str, backend: tokenizers.Tokenizer) -> bool:
    try:
        return backend.token_to_id(token) is not None
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can express
        return False


def _no_tokenizer_message(folder: Path) -> str:
    if any((folder / name).is_file() for name in ("tokenizer.model", "vocab.json", "spiece.model")):
        return (
            f"{folder} has a tokenizer of an older kind but no tokenizer.json; make one with transformers: "
            "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
        )
    return f"{folder} has no tokenizer.json; name a folder or a .gguf file that has a tokenizer with --tokenizer"
