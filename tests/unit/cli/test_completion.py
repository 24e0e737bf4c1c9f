"""The scripts, each run by its shell where that is installed."""

from __future__ import annotations

import shutil
import subprocess
from os.path import commonprefix
from pathlib import Path

import pytest

from kvik.cli.main import main
from support.terminal import Terminal

CASES = [
    ("kvik co", {"complete", "completion", "collect-env", "convert"}),
    ("kvik serve --max-num-se", {"--max-num-seqs"}),
    ("kvik serve --scheduling-policy ", {"fcfs", "priority"}),
    ("kvik chat --sys", {"--system-prompt"}),
    ("kvik run-batch --input", {"--input-file"}),
    ("kvik convert --quantization ", {"int4", "int8"}),
    ("kvik bench thr", {"throughput"}),
    ("kvik completion f", {"fish"}),
]


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        *CASES,
        ("kvik serve --scheduling-policy =", {"fcfs", "priority"}),
        ("kvik serve --dtype = floa", {"float", "float16", "float32"}),
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


def needs(shell: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"{shell} is not installed")


@needs("fish")
@pytest.mark.parametrize(("words", "expected"), [*CASES, ("kvik serve --scheduling-policy=f", {"fcfs"})])
def test_fish(words: str, expected: set[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "kvik.fish").write_text(script("fish", capsys))
    command = "source kvik.fish; complete -C $argv"
    run = subprocess.run(
        [shutil.which("fish") or "", "--no-config", "-c", command, words],
        cwd=tmp_path, env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=True,
        timeout=20,
    )  # fmt: skip
    assert run.stderr == ""
    assert {line.split("\t")[0].rpartition("=")[2] for line in run.stdout.splitlines()} == expected


@needs("zsh")
def test_zsh(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """By pressing Tab: zsh completes nowhere but at its prompt."""
    start = "autoload -U compinit; compinit -D -u; unsetopt list_ambiguous; kvik() { echo ran ${(q)@}; }\n"
    (tmp_path / "start.zsh").write_text(start + script("zsh", capsys))
    with Terminal("zsh", "-f", "-i", env={"HOME": str(tmp_path)}) as terminal:
        terminal.press_enter(f"source {tmp_path}/start.zsh; PS1='rea''dy> '")
        terminal.until("ready> ")
        for words, expected in CASES:
            terminal.type(words + "\t")
            for word in sorted(expected) if len(expected) > 1 else ():  # a choice is listed
                terminal.until(word)
            written = commonprefix(list(expected))  # noqa: RUF071 (characters are what a shell writes)
            whole = f"{words.rpartition(' ')[0]} {written}"
            terminal.press_enter("")
            shown = terminal.until(f"ran {whole.removeprefix('kvik ').rstrip()}\n")
            assert "error" not in shown
            terminal.until("ready> ")


def test_another_shell(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "csh"]) == 2
    assert "bash|zsh|fish" in capsys.readouterr().err
