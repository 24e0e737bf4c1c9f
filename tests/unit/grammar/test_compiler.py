"""Regular expressions, choices, grammars and structural tags: what compiles, what is refused, what is remembered."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from kvik.config.structured_outputs import GrammarLimits, StructuredOutputsConfig
from kvik.errors import InvalidRequestError
from kvik.grammar import compiler as compiler_module
from kvik.grammar.compiler import GrammarCompiler
from kvik.structured_outputs import StructuredOutputs
from support.schemas import VOCABULARY
from unit.grammar.conftest import MakeConstraint

END = len(VOCABULARY)
TAG = {"begin": "<f>", "schema": {"type": "integer"}, "end": "</f>"}


def accepts(constrain: MakeConstraint, text: str, **asked: Any) -> bool:
    """Whether the whole text may be an answer."""
    constraint = constrain(**asked)
    if not all(constraint.advance(byte) for byte in text.encode()):
        return False
    masks = constraint.masks()
    return constraint.is_complete or bool(masks is not None and masks[0][END // 32] >> END % 32 & 1)


@pytest.mark.parametrize(
    ("asked", "good", "bad"),
    [
        ({"regex": r"^\d{2}$"}, ["12"], ["1", "123", "x"]),
        ({"regex": "a/b|c\nd"}, ["a/b", "c\nd"], ["a", "ab"]),
        ({"regex": r"cost: \$"}, ["cost: $"], ["cost: "]),
        ({"json_object": True}, ["{}", '{"a": [1, null]}'], ["[]", "1", '{"a"}']),
        ({"grammar": 'start: "a" | "b" start'}, ["a", "bba"], ["b", ""]),
        ({"grammar": 'start: "n=" %json {"type": "integer"}'}, ["n=12"], ["n=", "n=x"]),
        ({"grammar": 'root ::= x ("," x)*\nx ::= [a-c]+ # comment\n'}, ["ab,c"], [",", "d"]),
        ({"structural_tag": {"structures": [TAG], "triggers": ["<f"]}}, ["", "hi <f>12</f> bye", "<f>1</f><f>2</f>"],
         ["<f>x", "<f>12<"]),
        ({"structural_tag": {"format": {"type": "const_string", "value": "x"}}}, ["x"], ["y", ""]),
        (
            {"structural_tag": {"format": {"type": "sequence", "elements": [
                {"type": "regex", "pattern": "a+"}, {"type": "or", "elements": [
                    {"type": "const_string", "value": "/"}, {"type": "grammar", "grammar": 'start: "#"'}]}]}}},
            ["aa/", "a#"], ["/", "a"],
        ),
        (
            {"structural_tag": {"format": {"type": "tags_with_separator", "separator": ";", "at_least_one": True,
             "tags": [
                {"begin": "[", "content": {"type": "any_text"}, "end": "]"}]}}},
            ["[x]", "[x];[yz]"], ["", "[x];"],
        ),
        (
            {"structural_tag": {"format": {"type": "triggered_tags", "triggers": ["<"], "at_least_one": True, "tags": [
                {"begin": "<a>", "content": {"type": "json_schema", "json_schema": True}, "end": ["</a>", "<end>"]},
                {"begin": "<b>", "content": {"type": "const_string", "value": "!"}, "end": ""}]}}},
            ["text <a>[1]</a>", "<b>!", "<a>1<end> <b>!"], ["text", "<c>"],
        ),
    ],
)  # fmt: skip
def test_what_is_accepted(asked: dict[str, Any], good: list[str], bad: list[str], constrain: MakeConstraint) -> None:
    for text in good:
        assert accepts(constrain, text, **asked), text
    for text in bad:
        assert not accepts(constrain, text, **asked), text


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"regex": "(a"}, "unclosed group"),
        ({"regex": "(?=a)"}, "look-around"),
        ({"regex": "a" * 9000}, "--max-regex-chars"),
        ({"choice": []}, "at least one"),
        ({"choice": ["x"] * 5000}, "--max-choices"),
        ({"grammar": " "}, "empty"),
        ({"grammar": "start: a"}, "unknown name"),
        ({"grammar": 'root ::= ("a"'}, r"Expected '\)'"),
        ({"grammar": "root ::= " + "(" * 300 + '"a"' + ")" * 300}, "nests more than"),
        ({"grammar": "start: <|nope|>"}, "unknown special token"),
        ({"grammar": 'start: "' + "x" * 200_000 + '"'}, "--max-grammar-chars"),
        ({"structural_tag": "{"}, "not JSON"),
        ({"structural_tag": "[]"}, "must be an object"),
        ({"structural_tag": {"structures": [TAG], "triggers": ["?"]}}, "none of the triggers"),
        ({"structural_tag": {"format": {"type": "x"}}}, "must be an object whose 'type' is one of"),
        ({"json_object": True, "whitespace_pattern": ""}, "whitespace_pattern"),
    ],
)
def test_what_is_refused_and_why(asked: dict[str, Any], words: str, compiler: GrammarCompiler) -> None:
    with pytest.raises(InvalidRequestError, match=words) as refused:
        compiler.compile(StructuredOutputs(**asked, param="guided_x"))
    assert refused.value.param == "guided_x"
    assert len(refused.value.message) < 1000


HOSTILE: dict[str, dict[str, Any]] = {
    "nested repetition": {"regex": "((a{1,1000}){1,1000}){1,1000}"},
    "exponential automaton": {"regex": "(.*a.{18}){2}"},
    "many alternatives": {"regex": "|".join(f"w{i}" for i in range(1500))},
    "many properties": {"json": {"type": "object", "properties": {f"p{i}": {"type": "integer"} for i in range(1500)}}},
    "long strings": {"json": {"type": "string", "minLength": 100_000, "maxLength": 200_000}},
    "long arrays": {"json": {"type": "array", "items": {"type": "integer"}, "minItems": 10_000, "maxItems": 100_000}},
    "repeated rule": {"grammar": 'start: ("a" | "b"){1,100000}'},
    "left and right recursion": {"grammar": 'start: start start | "a" | start start start'},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_takes_long(name: str, compiler: GrammarCompiler) -> None:
    started = time.thread_time()
    try:
        compiler.compile(StructuredOutputs(**HOSTILE[name]))
    except InvalidRequestError as refusal:
        assert len(refusal.message) < 1000  # noqa: PT017
    assert time.thread_time() - started < 2


def test_special_tokens_may_be_named(compiler: GrammarCompiler) -> None:
    assert compiler.compile(StructuredOutputs(grammar='start: "a" <|im_end|>')).compiled


def test_outcomes_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler_module, "MAX_CACHED", 2)
    one = GrammarCompiler(StructuredOutputsConfig(limits=GrammarLimits()))
    wishes = [StructuredOutputs(regex=regex) for regex in ("a", "(", "b")]
    done = one.compile(wishes[0])
    assert one.cached(wishes[0]) == done
    for wish in wishes[1:]:
        try:
            one.compile(wish)
        except InvalidRequestError as error:
            assert "unclosed" in error.message  # noqa: PT017
    with pytest.raises(InvalidRequestError, match="unclosed"):
        one.cached(wishes[1])
    assert one.cached(wishes[0]) is None
    assert one.cached(StructuredOutputs(regex="b", starts_after=[1])) is not None


def test_a_servers_options_hold_for_all() -> None:
    strict = GrammarCompiler(StructuredOutputsConfig(disable_any_whitespace=True, disable_additional_properties=True))
    schema = {"type": "object", "properties": {"a": {}}}
    compiled = strict.compile(StructuredOutputs(json=schema)).compiled or ""
    assert json.loads(compiled.partition("%json ")[2])["additionalProperties"] is False
    assert '"whitespace_flexible": false' in compiled


def test_an_error_in_a_schema_is_told_without_our_notation() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        GrammarCompiler(StructuredOutputsConfig()).compile(StructuredOutputs(json={"type": "nonsense"}))
    assert caught.value.message == "the JSON schema cannot be used: Invalid type: nonsense"
