from __future__ import annotations

import pytest

from kvik import __version__
from kvik.cli.collect_env import report
from kvik.cli.main import main


def test_the_report_has_versions_cpu_and_memory() -> None:
    lines = dict(report())
    assert lines["kvik"] == __version__
    assert lines["torch"][0].isdigit()
    assert "usable of" in lines["cores"]
    assert "GiB available" in lines["memory"]


def test_secrets_are_struck_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVIK_API_KEY", "secret")
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "DEBUG")
    lines = dict(report())
    assert lines["KVIK_API_KEY"] == "***"
    assert lines["VLLM_LOGGING_LEVEL"] == "DEBUG"


def test_it_takes_no_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["collect-env", "more"]) == 2
    assert main(["collect-env"]) == 0
    assert "CPU features:" in capsys.readouterr().out
