from __future__ import annotations

import pytest

from kvik.cli.help import default_text, help_text, spelling, status_text
from kvik.config.catalog import GROUPS, serve_flags
from kvik.config.flags import Flag
from kvik.errors import ConfigError

FLAGS = serve_flags()


def text(topic: str) -> str:
    return help_text("kvik serve", FLAGS, GROUPS, topic)


def test_the_short_help_has_common_flags_and_all_groups() -> None:
    shown = text("")
    assert "--max-model-len" in shown
    assert "--watermark" not in shown
    assert "--headless" not in shown, "a flag that is not supported yet is no common one"
    assert all(title in shown for title in GROUPS)


def test_all() -> None:
    shown = text("all")
    assert all(f"--{f.name}" in shown for f in FLAGS if f.name != "model-tag")


@pytest.mark.parametrize("topic", ["CacheConfig", "cacheconfig"])
def test_a_group(topic: str) -> None:
    shown = text(topic)
    assert "--block-size" in shown
    assert "--max-num-seqs" not in shown


@pytest.mark.parametrize("topic", ["max", "--max_num"])
def test_a_word(topic: str) -> None:
    shown = text(topic)
    assert "--max-num-seqs" in shown
    assert "--block-size" not in shown


def test_an_unknown_topic() -> None:
    with pytest.raises(ConfigError, match="--help=zzz: no group and no flag"):
        text("zzz")


def test_the_state_of_a_flag() -> None:
    flags = {f.name: f for f in FLAGS}
    assert status_text(flags["port"]) == "supported"
    assert status_text(flags["pipeline-parallel-size"]) == "not supported yet"
    assert status_text(flags["data-parallel-size-local"]) == "not supported yet, but 1 is accepted"
    assert status_text(flags["async-scheduling"]) == "supported"


@pytest.mark.parametrize(
    ("flag", "spelled"),
    [
        (Flag("enable-it", "bool", None, "", ""), "--enable-it, --no-enable-it"),
        (Flag("switch-it", "switch", False, "", ""), "--switch-it"),
        (Flag("size", "size", None, "", "", aliases=("-s",)), "--size, -s N"),
        (Flag("names", "list", (), "", ""), "--names TEXT ..."),
        (Flag("mode", "str", "a", "", "", choices=("a", "b")), "--mode {a,b}"),
        (Flag("model-tag", "str", None, "", ""), "MODEL"),
    ],
)
def test_spellings(flag: Flag, spelled: str) -> None:
    assert spelling(flag) == spelled


@pytest.mark.parametrize(
    ("default", "shown"),
    [(None, ""), ((), ""), (True, "on"), (0, "0"), (("a", "b"), "a b"), ("x", "x"), (0.92, "0.92")],
)
def test_defaults(default: object, shown: str) -> None:
    assert default_text(Flag("x", "str", default, "", "")) == shown
