from __future__ import annotations

from pathlib import Path

import pytest

from kvik.errors import InvalidRequestError
from kvik.server.confined import confine

FILES = ("adapter_config.json", "adapter_model.safetensors")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "sql").mkdir(parents=True)
    (tmp_path / "root" / "sql" / FILES[0]).write_text("{}")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / FILES[0]).write_text("{}")
    (tmp_path / "root-2").mkdir()
    return tmp_path / "root"


def test_what_lies_below_a_root_is_handed_on(root: Path) -> None:
    assert confine(str(root / "sql"), [str(root)], FILES) == str(root / "sql")
    assert confine(f"{root}/none/../sql", ["/nowhere", str(root)], FILES) == str(root / "sql")
    assert confine(str(root), [str(root)], FILES) == str(root)
    (root / "link").symlink_to(root / "sql")
    assert confine(str(root / "link"), [str(root)], FILES) == str(root / "sql")


def test_a_root_may_be_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(root)
    assert confine(str(tmp_path / "alias" / "sql"), [str(tmp_path / "alias")], FILES) == str(root / "sql")


@pytest.mark.parametrize(
    "path",
    ["../secret", "..", "../root-2", "../nothing", "/etc", "/", "out", "sql/../../secret", "inner", "a\0b"],
)
def test_all_else_is_refused_alike(root: Path, path: str) -> None:
    (root / "out").symlink_to(root.parent / "secret")
    (root / "inner").mkdir()
    (root / "inner" / FILES[1]).symlink_to("/etc/passwd")
    with pytest.raises(InvalidRequestError, match="--allowed-lora-path") as error:
        confine(path if path.startswith("/") else f"{root}/{path}", [str(root)], FILES)
    assert str(root) not in str(error.value)


def test_without_roots_nothing_is_looked_at() -> None:
    assert confine("any/../where", [], FILES) == "any/../where"
