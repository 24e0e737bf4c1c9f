from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from kvik import __version__
from kvik.cli.main import COMMANDS, guarded, main
from kvik.errors import ConfigError, InsufficientMemoryError, ModelFileError, NotSupportedYetError


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)


def test_no_command_is_a_mistake_of_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert capsys.readouterr().out.startswith("usage: kvik COMMAND")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


def test_an_unknown_command_gets_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["srve"]) == 2
    assert capsys.readouterr().err == "kvik: error: unknown command srve; did you mean serve?\n"


def raising(error: BaseException) -> Callable[[list[str]], int]:
    def run(words: list[str]) -> int:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("c"), 2),
        (NotSupportedYetError("--x"), 2),
        (ModelFileError("m"), 1),
        (InsufficientMemoryError("i"), 1),
    ],
)
def test_expected_errors_are_one_line(error: Exception, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(raising(error), []) == code
    captured = capsys.readouterr()
    assert captured.err == f"kvik: error: {error}\n"
    assert captured.out == ""


def test_an_interrupt_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(raising(KeyboardInterrupt()), []) == 130
    assert capsys.readouterr().err == ""


def test_an_unforeseen_error_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        guarded(raising(ZeroDivisionError()), [])


@pytest.mark.parametrize("module", ["kvik", "kvik.entrypoints.openai.api_server"])
def test_doors_open_as_modules(module: str) -> None:
    command = [sys.executable, "-m", module, "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ")


def test_a_reader_that_leaves_early_causes_no_traceback() -> None:
    command = f"{sys.executable} -m kvik serve --help=all | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stdout.startswith("usage: ")
    assert "Traceback" not in done.stderr
