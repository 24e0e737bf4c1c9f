"""Where a Hugging Face folder keeps its chat template. Reads the text; rendering it is the text room's concern."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kvik.errors import ModelFileError
from kvik.modelfile.json_file import read_json_object

DEFAULT, TOOL_USE = "default", "tool_use"
"""Names of templates: the usual one, and the one for conversations with tools."""


def read_chat_template(folder: Path) -> str | None:
    """The source of the usual template, or None."""
    return read_chat_templates(folder).get(DEFAULT)


def read_chat_templates(folder: Path) -> dict[str, str]:
    """Sources by name: of chat_template.jinja and additional_chat_templates/NAME.jinja, else of chat_template.json,
    else of tokenizer_config.json, which hold one, or a list of objects with name and template.

    Raises `ModelFileError` for what cannot be read.
    """
    jinja = folder / "chat_template.jinja"
    files = {path.stem: path for path in sorted((folder / "additional_chat_templates").glob("*.jinja"))}
    if jinja.is_file():
        files[DEFAULT] = jinja
    if files:
        return {name: _read_text(path) for name, path in files.items()}
    for name in ("chat_template.json", "tokenizer_config.json"):
        path = folder / name
        if path.is_file() and (templates := _named(read_json_object(path).get("chat_template"), path)):
            return templates
    return {}


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelFileError(f"cannot read {path}: {error}") from error


def _named(value: Any, path: Path) -> dict[str, str]:
    if value is None or isinstance(value, str):
        return {} if value is None else {DEFAULT: value}
    try:
        by_name = {entry["name"]: entry["template"] for entry in value}
    except (TypeError, KeyError):
        by_name = {DEFAULT: value}
    if all(isinstance(name, str) and isinstance(template, str) for name, template in by_name.items()):
        return by_name
    raise ModelFileError(f"{path}: field 'chat_template' must be a string, or a list of objects with name and template")
