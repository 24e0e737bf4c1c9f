"""Every schema is followed to the letter or refused with a reason; none hangs."""

from __future__ import annotations

import json
import re
import time

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvik.config.structured_outputs import GrammarLimits, StructuredOutputsConfig
from kvik.errors import InvalidRequestError
from kvik.grammar.compiler import GrammarCompiler
from kvik.structured_outputs import StructuredOutputs
from support.schemas import Schema, all_schemas, walk
from unit.grammar.conftest import MakeConstraint

SCHEMAS = all_schemas()
MAX_S = 2.0


def test_there_are_at_least_300_different_schemas() -> None:
    assert len({json.dumps(schema) for schema in SCHEMAS}) >= 300


@pytest.mark.parametrize("index", range(0, len(SCHEMAS), 10))
def test_walks_validate_or_the_schema_is_refused_with_a_reason(
    index: int, constrain: MakeConstraint, compiler: GrammarCompiler
) -> None:
    for schema in SCHEMAS[index : index + 10]:
        started = time.thread_time()
        reason = refusal(compiler, schema)
        if reason is None:
            check(walk(constrain(json=schema), seed=index), schema)
        assert reason is None or len(reason) > 20, schema
        assert time.thread_time() - started < MAX_S, schema


def check(text: bytes, schema: Schema) -> None:
    value = json.loads(text)
    jsonschema.Draft202012Validator(schema).validate(value)


def test_few_schemas_are_refused(compiler: GrammarCompiler) -> None:
    assert sum(refusal(compiler, schema) is not None for schema in SCHEMAS) < len(SCHEMAS) // 6


def refusal(compiler: GrammarCompiler, schema: Schema) -> str | None:
    try:
        compiler.compile(StructuredOutputs(json=schema))
    except InvalidRequestError as error:
        return error.message
    return None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.text('ab é"\\\n日🙂', max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abcé", min_size=1, max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


def schema_of(value: object) -> Schema:
    """The narrowest schema of a value."""
    if isinstance(value, dict):
        parts = {key: schema_of(part) for key, part in value.items()}
        return {"type": "object", "properties": parts, "required": list(parts), "additionalProperties": False}
    if isinstance(value, list):
        return {
            "type": "array", "prefixItems": [schema_of(part) for part in value], "items": False, "minItems": len(value),
        }  # fmt: skip
    names = {bool: "boolean", int: "integer", str: "string", type(None): "null"}
    return {"type": names[type(value)]}


@settings(max_examples=60, deadline=None)
@given(value=VALUES, indent=st.sampled_from([None, 0, 2]))
def test_every_valid_text_is_accepted_and_every_prefix_with_it(value: object, indent: int | None) -> None:
    constraint = shared_constraint(schema_of(value))
    for byte in json.dumps(value, ensure_ascii=False, indent=indent).encode():
        masks = constraint.masks()
        assert masks is not None
        assert masks[0][byte // 32] >> byte % 32 & 1, bytes([byte])
        assert constraint.advance(byte)
    masks = constraint.masks()
    assert constraint.is_complete or (masks is not None and masks[0][-1])


def shared_constraint(schema: Schema):  # type: ignore[no-untyped-def]
    """hypothesis takes no fixtures of a function's scope."""
    from llguidance import LLMatcher, LLTokenizer

    from kvik.grammar.constraint import Constraint
    from kvik.grammar.vocabulary import TokenBytes
    from support.schemas import VOCABULARY

    global _vocabulary
    if _vocabulary is None:
        _vocabulary = LLTokenizer(TokenBytes([*VOCABULARY, b"<end>"], [len(VOCABULARY)]), n_vocab=len(VOCABULARY) + 1)  # type: ignore[arg-type]
    compiled = GrammarCompiler(StructuredOutputsConfig()).compile(StructuredOutputs(json=schema)).compiled
    return Constraint(LLMatcher(_vocabulary, compiled or ""), len(VOCABULARY), ())


_vocabulary = None


def test_blanks_are_bounded(constrain: MakeConstraint) -> None:
    for blanks, is_fine in ((" ", True), ("\n  ", True), (" " * 9, False), ("\n" * 2, False), ("\n" + " " * 17, False)):
        constraint = constrain(json={"type": "array"})
        accepted = all(constraint.advance(byte) for byte in f"[{blanks}1]".encode())
        assert accepted is is_fine, blanks


def test_no_blanks_at_all_and_blanks_as_asked_for(constrain: MakeConstraint) -> None:
    compact = constrain(json={"type": "array"}, disable_any_whitespace=True)
    assert not all(compact.advance(byte) for byte in b"[ 1]")
    tabs = constrain(json={"type": "array"}, whitespace_pattern=r"\t")
    assert all(tabs.advance(byte) for byte in b"[\t1]")


def test_no_other_properties_unless_the_schema_says_so(constrain: MakeConstraint) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    for strict, is_fine in ((False, True), (True, False)):
        constraint = constrain(json=schema, disable_additional_properties=strict)
        assert all(constraint.advance(byte) for byte in b'{"b":1}') is is_fine


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ('{"type": "integer"', "not JSON"),
        ('{"minimum": NaN}', "NaN"),
        ("[1]", "must be an object"),
        ("false", "nothing satisfies"),
        ('{"a":' * 70 + "1" + "}" * 70, "--max-schema-depth"),
        ("[" * 100_000, "--max-schema-depth"),
        (json.dumps({"enum": list(range(30_000))}), "--max-schema-nodes"),
        (json.dumps({"enum": ["x" * 300_000]}), "--max-schema-bytes"),
        ('{"type": "string", "pattern": "(a"}', "unclosed group"),
        ('{"type": "object", "minProperties": 2}', "minProperties"),
    ],
)
def test_what_is_refused_and_why(asked: str, words: str, compiler: GrammarCompiler) -> None:
    with pytest.raises(InvalidRequestError, match=re.escape(words)) as refused:
        compiler.compile(StructuredOutputs(json=asked, param="response_format"))
    assert refused.value.param == "response_format"
    assert len(refused.value.message) < 1000


def test_caps_are_those_of_the_flags() -> None:
    tight = GrammarCompiler(StructuredOutputsConfig(limits=GrammarLimits(max_schema_bytes=20, max_schema_depth=2)))
    tight.compile(StructuredOutputs(json={"type": "integer"}))
    with pytest.raises(InvalidRequestError, match="at most 20"):
        tight.compile(StructuredOutputs(json={"type": "integer", "minimum": 3}))
