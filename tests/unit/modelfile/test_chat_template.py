from __future__ import annotations

import json
from pathlib import Path

import pytest

from kvik.errors import ModelFileError
from kvik.modelfile.chat_template import read_chat_template, read_chat_templates


def test_none(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text("{}")
    assert read_chat_template(tmp_path) is None


def test_each_place_wins_over_the_later_ones(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "third"}')
    assert read_chat_template(tmp_path) == "third"
    (tmp_path / "chat_template.json").write_text('{"chat_template": "second"}')
    assert read_chat_template(tmp_path) == "second"
    (tmp_path / "chat_template.jinja").write_text("first é")
    assert read_chat_template(tmp_path) == "first é"


def test_of_several_the_default(tmp_path: Path) -> None:
    named = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    assert read_chat_template(tmp_path) == "d"
    assert read_chat_templates(tmp_path) == {"default": "d", "tool_use": "t"}


def test_of_several_without_a_default(tmp_path: Path) -> None:
    named = [{"name": "tool_use", "template": "t"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    assert read_chat_template(tmp_path) is None


def test_files_beside_the_usual_one(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "older"}')
    (tmp_path / "chat_template.jinja").write_text("usual")
    more = tmp_path / "additional_chat_templates"
    more.mkdir()
    (more / "tool_use.jinja").write_text("tools")
    assert read_chat_templates(tmp_path) == {"default": "usual", "tool_use": "tools"}


@pytest.mark.parametrize("value", [3, ["x"], [{"name": "default"}], [{"name": "default", "template": 1}]])
def test_senseless_values_are_refused(tmp_path: Path, value: object) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": value}))
    with pytest.raises(ModelFileError, match=r"tokenizer_config\.json: field 'chat_template'"):
        read_chat_template(tmp_path)


def test_a_template_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(ModelFileError, match=r"chat_template\.jinja"):
        read_chat_template(tmp_path)
