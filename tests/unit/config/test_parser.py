from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvik.config.flags import Flag
from kvik.config.parser import Parsed, Parser, merged
from kvik.errors import ConfigError

FLAGS = [
    Flag("help", "str", None, "", "", aliases=("-h",)),
    Flag("enable-it", "bool", None, "", ""),
    Flag("switch-it", "switch", False, "", ""),
    Flag("max-len", "size_or_auto", None, "", ""),
    Flag("tensor-parallel-size", "int", 1, "", "", aliases=("-tp",)),
    Flag("name", "list", (), "", ""),
    Flag("sizes", "int_list", None, "", ""),
    Flag("settings", "json", None, "", "", aliases=("-sc",)),
    Flag("level", "str", "2", "", "", aliases=("-O",)),
    Flag("memory", "float", 0.9, "", "", aliases=("--device-memory",)),
]


def parse(line: str) -> Parsed:
    return Parser(FLAGS).parse(line.split())


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("--max-len 8k", {"max_len": 8000}),
        ("--max-len=8k", {"max_len": 8000}),
        ("--max_len 8k", {"max_len": 8000}),
        ("--max-len -1", {"max_len": -1}),
        ("--max-len auto", {"max_len": -1}),
        ("--enable-it", {"enable_it": True}),
        ("--no-enable-it", {"enable_it": False}),
        ("--no_enable_it", {"enable_it": False}),
        ("--enable-it=false", {"enable_it": False}),
        ("--switch-it", {"switch_it": True}),
        ("-tp 2", {"tensor_parallel_size": 2}),
        ("-tp=2", {"tensor_parallel_size": 2}),
        ("-O3", {"level": "3"}),
        ("-O=3", {"level": "3"}),
        ("-O 3", {"level": "3"}),
        ("--name a b --max-len 1", {"name": ("a", "b"), "max_len": 1}),
        ("--name=a", {"name": ("a",)}),
        ("--sizes 1 2 4", {"sizes": (1, 2, 4)}),
        ("--memory .5", {"memory": 0.5}),
        ("--device-memory 0.5", {"memory": 0.5}),
        ('--settings {"a":1}', {"settings": {"a": 1}}),
        ("--settings.a 1 --settings.b.c x", {"settings": {"a": 1, "b": {"c": "x"}}}),
        ("--settings.a=true", {"settings": {"a": True}}),
        ("-sc.method ngram", {"settings": {"method": "ngram"}}),
        ("--settings.l+ a --settings.l+ 2", {"settings": {"l": ["a", 2]}}),
        ('--settings {"a":1,"b":{"c":2}} --settings.b.d 3', {"settings": {"a": 1, "b": {"c": 2, "d": 3}}}),
        ('--settings.b.d 3 --settings {"a":1,"b":{"c":2}}', {"settings": {"a": 1, "b": {"c": 2, "d": 3}}}),
    ],
)
def test_spellings(line: str, values: dict[str, Any]) -> None:
    parsed = parse(line)
    assert parsed.values == values
    assert parsed.positionals == []
    assert parsed.warnings == []


def test_positionals_stand_anywhere_but_in_a_list() -> None:
    assert parse("model --max-len 1").positionals == ["model"]
    assert parse("--max-len 1 model").positionals == ["model"]
    assert parse("--name a -- model --max-len").positionals == ["model", "--max-len"]


def test_a_repeated_flag_counts_once_and_warns() -> None:
    parsed = parse("--max-len 1 --max_len 2")
    assert parsed.values == {"max_len": 2}
    assert parsed.warnings == ["--max-len is given more than once; the last one counts"]


def test_only_dotted_keys_leave_a_mapping_partial() -> None:
    assert parse("--settings.a 1").partial == {"settings"}
    assert parse('--settings {"a":1} --settings.b 1').partial == set()


@pytest.mark.parametrize(
    ("line", "topic"), [("--help", ""), ("-h", ""), ("--help=Cache", "Cache"), ("--max-len 1", None)]
)
def test_help(line: str, topic: str | None) -> None:
    assert parse(line).help == topic


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--max-lem 1", "unknown flag --max-lem; did you mean --max-len?"),
        ("--max-l 1", "unknown flag --max-l; did you mean --max-len?"),
        ("--zzz", "unknown flag --zzz; --help lists them all"),
        ("--no-switch-it", "unknown flag --no-switch-it"),
        ("--no-max-len", "unknown flag --no-max-len"),
        ("--no-enable-it=true", "--no-enable-it takes no value"),
        ("--max-len", "--max-len needs a value"),
        ("--max-len --enable-it", "--max-len needs a value"),
        ("--name", "--name needs a value"),
        ("--max-len x", "--max-len takes an integer"),
        ("--enable-it=maybe", "--enable-it takes true or false"),
        ("--max-len.a 1", "--max-len has no keys"),
        ("--settings.a.b 1 --settings.a.b.c 1", "b already has a value, 1"),
        ("--settings.a 1 --settings.a+ 1", "a already has a value that is no list, 1"),
        ("--settings. 1", "a key is empty"),
        ("--settings [1] --settings.a 1", "needs --settings to be a JSON object"),
        ("-z", "unknown flag -z"),
    ],
)
def test_mistakes_are_named(line: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(line)
    assert message in str(caught.value)


@given(st.lists(st.text(max_size=12) | st.sampled_from(["--max-len", "--name", "--settings.a", "-tp", "--", "-O2"])))
def test_any_words_end_in_values_or_in_a_config_error(words: list[str]) -> None:
    with suppress(ConfigError):
        parsed = Parser(FLAGS).parse(words)
        assert parsed.values.keys() <= {f.dest for f in FLAGS}


JSON = st.recursive(
    st.integers() | st.text(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner), max_leaves=8
)
OBJECT = st.dictionaries(st.sampled_from("abc"), JSON)


@given(OBJECT, OBJECT)
def test_merging_keeps_both_and_prefers_the_upper(base: dict[str, Any], over: dict[str, Any]) -> None:
    result = merged(base, over)
    assert result.keys() == base.keys() | over.keys()
    assert merged(result, over) == result
    for key, value in over.items():
        if not isinstance(value, dict):
            assert result[key] == value
