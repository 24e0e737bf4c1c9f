from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from kvik import __version__
from kvik.cli.collect_env import kernels, report, text_of
from kvik.cli.main import main


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, object]]:
    return report({})


def test_the_report_has_versions_cpu_and_memory(found: dict[str, dict[str, object]]) -> None:
    assert found["versions"]["kvik"] == __version__
    assert str(found["packages"]["torch"])[0].isdigit()
    assert found["packages"]["llguidance"] != "not installed"
    assert 1 <= int(str(found["cpu"]["num_usable_cores"])) <= int(str(found["cpu"]["num_cores"]))
    assert 0 < int(str(found["memory"]["available_bytes"])) <= int(str(found["memory"]["total_bytes"]))


def test_the_kernels_are_those_that_would_run(
    found: dict[str, dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from kvik.kernels.runtime import isa

    assert found["kernels"]["in_use"] == isa()
    assert isa() in found["kernels"]["available"]  # type: ignore[operator]
    monkeypatch.setenv("KVIK_ISA", "reference")
    assert report({})["kernels"]["in_use"] == "reference"


def test_kernels_that_cannot_be_loaded_do_not_end_the_report() -> None:
    assert kernels([sys.executable, "-c", "raise ValueError('no such set')"]) == {
        "error": "exit code 1: ValueError: no such set"
    }
    died = kernels([sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGILL)"])
    assert died == {"error": "exit code -4: it says nothing"}
    assert "error" in kernels([sys.executable, "-c", "print('no JSON')"])
    assert "error" in kernels(["/no/such/program"])


def test_secrets_and_names_are_struck_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setattr("kvik.cli.collect_env.kernels", lambda command: {})
    shown = report({
        "KVIK_API_KEY": "secret", "VLLM_S3_PASSWORD": "secret", "KVIK_PROXY": "http://ada:secret@proxy:80",
        "KVIK_CACHE_ROOT": "/home/ada/cache", "VLLM_LOGGING_LEVEL": "DEBUG", "USER": "ada", "HF_TOKEN": "secret",
    })["environment"]  # fmt: skip
    assert shown == {
        "KVIK_API_KEY": "***", "KVIK_CACHE_ROOT": "~/cache", "KVIK_PROXY": "http://***@proxy:80",
        "VLLM_LOGGING_LEVEL": "DEBUG", "VLLM_S3_PASSWORD": "***",
    }  # fmt: skip


def test_it_is_text_for_people() -> None:
    text = text_of({"memory": {"total_bytes": 3 << 30}, "cpu": {"features": [], "model": "x"}, "environment": {}})
    assert text == "memory\n  total_bytes: 3.0 GiB\n\ncpu\n  features: none\n  model:    x"


def test_it_is_json_for_programs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvik.cli.collect_env.kernels", lambda command: {})
    assert main(["collect-env", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {
        "versions", "cpu", "gpus", "memory", "kernels", "packages", "environment",
    }  # fmt: skip


def test_other_words_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["collect-env", "more"]) == 2
    assert "--json and nothing else" in capsys.readouterr().err


def test_no_report_holds_the_home_folder(found: dict[str, dict[str, object]]) -> None:
    home = str(Path.home())
    assert len(home) == 1 or home + "/" not in json.dumps(found)
