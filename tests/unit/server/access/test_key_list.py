from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvik.errors import ConfigError
from kvik.server.access.key_list import MAX_KEYS, parse_keys
from kvik.server.access.keys import hash_key

HASH = hash_key(b"secret").hex()


def entry(**changes: Any) -> dict[str, Any]:
    return {"name": "team-a", "sha256": HASH, "scopes": ["infer"]} | changes


def test_yaml_and_json_say_the_same() -> None:
    text = f"# keys\n- name: team-a\n  sha256: '{HASH}'\n  scopes: [infer]\n"
    (key,) = parse_keys(text)
    assert (key.name, key.sha256, key.scopes) == ("team-a", hash_key(b"secret"), frozenset(["infer"]))
    assert parse_keys(json.dumps([entry(sha256=HASH.upper())])) == (key,)
    assert parse_keys("[]") == ()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "must hold a list"),
        ("{}", "must hold a list"),
        ("- {", "neither YAML nor JSON, line"),
        ("- !!python/object/apply:os.system [x]", "neither YAML nor JSON, line 1"),
        ("[" * 100_000, "neither YAML nor JSON"),
        (["x"], "key 1 must have name"),
        ([entry(key="secret")], "unknown field key"),
        ([entry(name="a b")], "name takes"),
        ([entry(name=7)], "name takes"),
        ([entry(name="anonymous")], "something else"),
        ([entry(name="api-key-1")], "something else"),
        ([entry(sha256="secret")], r"key 1 \(team-a\): sha256 takes 64 hex digits"),
        ([entry(sha256=5)], "sha256 takes"),
        ([entry(scopes=[])], "one or more of infer, metrics, admin"),
        ([entry(scopes="infer")], "one or more of"),
        ([entry(scopes=["root"])], "one or more of"),
        ([entry(scopes=[["infer"]])], "one or more of"),
        ([entry(), entry()], "two keys have the name team-a"),
        ([entry(), entry(name="b")], "team-a and b are the same key"),
        ([entry()] * (MAX_KEYS + 1), "at most"),
    ],
)
def test_what_is_wrong_is_named(content: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as error:
        parse_keys(content if isinstance(content, str) else json.dumps(content))
    assert HASH not in str(error.value)


@given(st.text(max_size=200) | st.recursive(st.none() | st.text(max_size=9), st.lists, max_leaves=9).map(json.dumps))
def test_anything_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ConfigError):
        parse_keys(text)
