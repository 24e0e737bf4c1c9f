from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kvik.config.catalog import serve_flags
from kvik.config.file import read_config_file, under_command_line
from kvik.config.parser import Parser
from kvik.errors import ConfigError

FLAGS = serve_flags()


def read(tmp_path: Path, text: str, name: str = "f.yaml") -> dict[str, Any]:
    path = tmp_path / name
    path.write_text(text)
    return read_config_file(str(path), FLAGS)


def test_names_lists_mappings_and_booleans(tmp_path: Path) -> None:
    text = """
port: 8100
max-model-len: 8k
max_num_seqs: 4
served-model-name: [a, b]
api-key: one
enable-prefix-caching: false
disable-log-stats: true
default-chat-template-kwargs: {thinking: true}
allowed-origins: ["*"]
uds:
"""
    assert read(tmp_path, text) == {
        "port": 8100, "max_model_len": 8000, "max_num_seqs": 4, "served_model_name": ("a", "b"), "api_key": ("one",),
        "enable_prefix_caching": False, "disable_log_stats": True,
        "default_chat_template_kwargs": {"thinking": True}, "allowed_origins": ("*",),
    }  # fmt: skip


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, "# nothing\n") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot: 1", "unknown flag prot"),
        ("config: x.yaml", "unknown flag config"),
        ("port: [1]", "--port takes one value"),
        ("port: x", "--port takes an integer"),
        ("- port", "must hold lines"),
        ("port: [", "is no YAML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, text)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"takes a \.yaml or \.yml file"):
        read(tmp_path, "{}", "f.json")
    with pytest.raises(ConfigError, match="cannot read"):
        read_config_file(str(tmp_path / "none.yaml"), FLAGS)


def test_the_command_line_wins_and_dotted_keys_are_laid_over() -> None:
    file_values = {"port": 1, "host": "h", "default_chat_template_kwargs": {"a": 1, "b": 2}}
    dotted = Parser(FLAGS).parse(["--port", "2", "--default-chat-template-kwargs.b", "3"])
    assert under_command_line(file_values, dotted) == {
        "port": 2, "host": "h", "default_chat_template_kwargs": {"a": 1, "b": 3},
    }  # fmt: skip
    whole = Parser(FLAGS).parse(["--default-chat-template-kwargs", '{"c": 1}'])
    assert under_command_line(file_values, whole)["default_chat_template_kwargs"] == {"c": 1}
