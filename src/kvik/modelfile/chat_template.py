"""Where a Hugging Face folder keeps its chat template. Reads the text; rendering it is the text room's concern."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kvik.errors import ModelFileError
from kvik.modelfile.json_file import read_json_object


def read_chat_template(folder: Path) -> str | None:
    """The template's source, or None: chat_template.jinja, else chat_template.json, else tokenizer_config.json.

    Where several are named in a list, the one called "default" is taken.
    """
    jinja = folder / "chat_template.jinja"
    if jinja.is_file():
        try:
            return jinja.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelFileError(f"cannot read {jinja}: {error}") from error
    for name in ("chat_template.json", "tokenizer_config.json"):
        path = folder / name
        if path.is_file():
            template = _default_template(read_json_object(path).get("chat_template"), path)
            if template is not None:
                return template
    return None


def _default_template(value: Any, path: Path) -> str | None:
    if value is None or isinstance(value, str):
        return value
    try:
        by_name = {entry["name"]: entry["template"] for entry in value}
        template = by_name.get("default")
    except (TypeError, KeyError):
        template = value
    if template is None or isinstance(template, str):
        return template
    raise ModelFileError(f"{path}: field 'chat_template' must be a string, or a list of objects with name and template")
