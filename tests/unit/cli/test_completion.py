"""The bash script, run by bash; the others by their words."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from kvik.cli.main import main


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("kvik co", {"complete", "completion", "collect-env", "convert"}),
        ("kvik serve --max-num-se", {"--max-num-seqs"}),
        ("kvik serve --scheduling-policy ", {"fcfs", "priority"}),
        ("kvik chat --sys", {"--system-prompt"}),
        ("kvik run-batch --input", {"--input-file"}),
        ("kvik completion f", {"fish"}),
    ],
)
def test_bash(words: str, expected: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    split = words.split(" ")
    words = f'COMP_WORDS=({" ".join(split[:-1])} "{split[-1]}"); COMP_CWORD={len(split) - 1}'
    line = f'{words}; _kvik; echo "${{COMPREPLY[@]}}"'
    run = subprocess.run(
        ["bash", "-c", script("bash", capsys) + line], capture_output=True, text=True, check=True, timeout=20
    )
    assert set(run.stdout.split()) == expected


def test_fish_and_zsh(capsys: pytest.CaptureFixture[str]) -> None:
    assert "-l scheduling-policy -x -a 'fcfs priority'" in script("fish", capsys)
    assert "bashcompinit" in script("zsh", capsys)


def test_another_shell(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "csh"]) == 2
    assert "bash|zsh|fish" in capsys.readouterr().err
