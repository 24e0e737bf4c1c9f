from __future__ import annotations

import os
from pathlib import Path

import pytest

from kvik.compilation.cache import cache_folder, direct_caches


def test_below_the_cache_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KVIK_CACHE_ROOT", str(tmp_path))
    assert cache_folder("") == tmp_path / "torch_compile"


def test_what_is_asked_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "given"))
    assert cache_folder("") == tmp_path / "given"
    assert cache_folder(str(tmp_path / "asked")) == tmp_path / "asked"


def test_inductor_is_told_of_a_folder_that_is_there(tmp_path: Path) -> None:
    direct_caches(str(tmp_path / "a" / "b"))
    assert (tmp_path / "a" / "b").is_dir()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "a" / "b")
