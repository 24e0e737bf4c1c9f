from __future__ import annotations

import importlib.util

import pytest

from kvik.cli.main import main
from kvik.cli.top import main as top
from kvik.cli.top.main import TopArgs, address_of
from kvik.errors import ConfigError


@pytest.mark.parametrize(
    ("args", "words", "address"),
    [
        (TopArgs(), [], "http://localhost:8000"),
        (TopArgs(host="gpu1", port=9000), [], "http://gpu1:9000"),
        (TopArgs(host="::1"), [], "http://[::1]:8000"),
        (TopArgs(), ["gpu1:9000"], "http://gpu1:9000"),
        (TopArgs(), ["https://gpu1/v1"], "https://gpu1/v1"),
    ],
)
def test_a_server_is_named_by_an_address_or_by_host_and_port(args: TopArgs, words: list[str], address: str) -> None:
    assert address_of(args, words) == address


def test_two_addresses_are_one_too_many() -> None:
    with pytest.raises(ConfigError, match="one URL"):
        address_of(TopArgs(), ["a", "b"])
    with pytest.raises(ConfigError, match="or --host and --port"):
        address_of(TopArgs(port=1), ["a"])


def test_without_textual_the_error_names_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(top, "find_spec", lambda name: None if name == "textual" else find(name))
    assert main(["top"]) == 2
    assert "pip install 'kvik[top]'" in capsys.readouterr().err


def test_without_a_terminal_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top"]) == 2
    assert "needs a terminal" in capsys.readouterr().err


@pytest.mark.parametrize("interval", ["0", "-1", "nan", "1e9"])
def test_an_interval_that_cannot_be_is_refused(interval: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", f"--interval={interval}"]) == 2
    assert "--interval" in capsys.readouterr().err


def test_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", "--help"]) == 0
    assert "--interval" in capsys.readouterr().out
