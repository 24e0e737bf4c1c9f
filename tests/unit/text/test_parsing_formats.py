"""Formats of tool calls: what each reads, that cuts do not matter, that nothing a model writes breaks them."""

from __future__ import annotations

import json
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvik.text.parsing import AnswerParser, ParsedAnswer, ParsedToolCall
from kvik.text.parsing.deepseek import CALL_BEGIN, CALL_END, CALLS_BEGIN, CALLS_END, SEP
from kvik.text.parsing.forced import FirstCallOnly, NamedCallParser, forced_list_parser
from kvik.text.parsing.formats import TOOL_FORMATS
from kvik.text.parsing.pipeline import chained, without_tokens
from kvik.text.parsing.reasoning import REASONING, Begin

WEATHER = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
TOOLS = {"weather": WEATHER, "f": {"type": "object"}}
ARGUMENTS = '{"city": "Pāris \\"x\\"", "days": [1, -2.5e3, true, null, {}]}'

WHOLE = {
    "hermes": f'<tool_call>\n{{"name": "weather", "arguments": {ARGUMENTS}}}\n</tool_call>',
    "llama3_json": f'{{"name": "weather", "parameters": {ARGUMENTS}}}',
    "granite": f'<|tool_call|>[{{"name": "weather", "arguments": {ARGUMENTS}}}]',
    "granite-20b-fc": f'<function_call> {{"name": "weather", "arguments": {ARGUMENTS}}}',
    "jamba": f'<tool_calls>[{{"name": "weather", "arguments": {ARGUMENTS}}}]</tool_calls>',
    "longcat": f'<longcat_tool_call>{{"name": "weather", "arguments": {ARGUMENTS}}}</longcat_tool_call>',
    "phi4_mini_json": f'functools[{{"name": "weather", "arguments": {ARGUMENTS}}}]',
    "mistral": f'[TOOL_CALLS][{{"name": "weather", "arguments": {ARGUMENTS}}}]',
    "deepseek_v3": f"{CALLS_BEGIN}{CALL_BEGIN}function{SEP}weather\n```json\n{ARGUMENTS}\n```{CALL_END}{CALLS_END}",
    "deepseek_v31": f"{CALLS_BEGIN}{CALL_BEGIN}weather{SEP}{ARGUMENTS}{CALL_END}{CALLS_END}",
    "pythonic": """[weather(city='Pāris "x"', days=[1, -2.5e3, True, None, {}])]""",
    "llama4_pythonic": """<|python_start|>[weather(city='Pāris "x"', days=(1,-2.5e3,True,None,{},))]<|python_end|>""",
    "qwen3_coder": "<tool_call>\n<function=weather>\n<parameter=city>\nPāris \"x\"\n</parameter>\n<parameter=days>\n"
    "[1, -2.5e3, true, null, {}]\n</parameter>\n</function>\n</tool_call>",
}  # fmt: skip


def parser_of(name: str) -> AnswerParser:
    return TOOL_FORMATS[name].new_parser(TOOLS)


def parsed(name: str, text: str) -> ParsedAnswer:
    return ParsedAnswer.of_text(text, parser_of(name))


def in_pieces(parser: AnswerParser, pieces: list[str]) -> ParsedAnswer:
    answer = ParsedAnswer()
    for piece in pieces:
        answer.add(parser.push(piece))
    answer.add(parser.finish())
    return answer


def calls(answer: ParsedAnswer) -> list[tuple[str, object]]:
    return [(call.name, json.loads(call.arguments)) for call in answer.tool_calls]


@pytest.mark.parametrize("name", WHOLE)
def test_a_call(name: str) -> None:
    answer = parsed(name, WHOLE[name])
    assert calls(answer) == [("weather", json.loads(ARGUMENTS))]
    assert answer.content == ""


@pytest.mark.parametrize("name", WHOLE)
def test_character_by_character_is_the_same_and_streams_arguments(name: str) -> None:
    parser = parser_of(name)
    num_with_arguments = 0
    answer = ParsedAnswer()
    for char in WHOLE[name]:
        events = parser.push(char)
        num_with_arguments += bool(events)
        answer.add(events)
    answer.add(parser.finish())
    assert answer == parsed(name, WHOLE[name])
    assert num_with_arguments > 10


@pytest.mark.parametrize("name", WHOLE)
def test_text_without_calls_is_content(name: str) -> None:
    for text in ("Hello [1](x) {2} <b>", " ", "", '{"name": 1}', "<tool_call", "[TOOL_CALLS]", "[weather(", "{", "["):
        assert parsed(name, text) == ParsedAnswer(content=text)


@pytest.mark.parametrize("name", [n for n in WHOLE if n not in ("llama3_json", "pythonic", "llama4_pythonic")])
def test_content_before_and_after_without_the_blanks_between(name: str) -> None:
    answer = parsed(name, f"Let me see.\n\n{WHOLE[name]}\n{WHOLE[name]}\n")
    assert answer.content == "Let me see."
    assert len(answer.tool_calls) == 2


def test_what_is_no_call_is_content_whole() -> None:
    for text in (
        '<tool_call>{"name": "f", "arguments": [1]}</tool_call>',
        '<tool_call>{"name": "", "arguments": {}}</tool_call> x',
        "<tool_call>{'name': 'f'}</tool_call>",
        '<tool_call>{"arguments": "{\\"a\\": NaN}", "name": "f"}</tool_call>',
        '<tool_call>{"name": "a\\ud800", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "f", "arguments": "{\\"a\\": \\"\\ud800\\"}"}</tool_call>',
    ):
        assert parsed("hermes", text) == ParsedAnswer(content=text)


def test_a_call_that_breaks_off_keeps_what_there_is() -> None:
    answer = parsed("hermes", '<tool_call>{"name": "f", "arguments": {"a": "b')
    assert answer == ParsedAnswer(tool_calls=[ParsedToolCall("f", '{"a": "b')])


def test_variations_of_hermes() -> None:
    text = '<tool_call>{"id": 1, "arguments": {"a":1}, "name": "f"}{"name": "f"} </tool_call><tool_call>' \
        '{"name": "f", "arguments": "{\\"b\\": 2}"}</tool_call> done'  # fmt: skip
    answer = parsed("hermes", text)
    assert calls(answer) == [("f", {"a": 1}), ("f", {}), ("f", {"b": 2})]
    assert answer.content == " done"


def test_line_breaks_within_strings_are_escaped() -> None:
    assert calls(parsed("hermes", '<tool_call>{"name": "f", "arguments": {"a": "x\ny\tz"}}')) == [
        ("f", {"a": "x\ny\tz"})
    ]


def test_llama3() -> None:
    two = '{"name": "f", "parameters": {}}; {"type": "function", "name": "weather", "parameters": {"city": "x"}}'
    assert calls(parsed("llama3_json", two)) == [("f", {}), ("weather", {"city": "x"})]
    assert calls(parsed("llama3_json", "<|python_tag|>" + two)) == [("f", {}), ("weather", {"city": "x"})]
    assert parsed("llama3_json", two.replace('"f"', '"g"')).tool_calls == []
    assert parsed("llama3_json", '{"name": "f"}').tool_calls == []


def test_mistral_by_name() -> None:
    text = '[TOOL_CALLS]f{"a": 1}[TOOL_CALLS]weather[CALL_ID]x1[ARGS]{"city": "y"}'
    assert calls(parsed("mistral", text)) == [("f", {"a": 1}), ("weather", {"city": "y"})]


def test_pythonic_literals() -> None:
    text = r"""[f(a="\x41\u00e9\n'", b={'k': [(), -1]}, c=null,), weather()]"""
    assert calls(parsed("pythonic", text)) == [("f", {"a": "Aé\n'", "b": {"k": [[], -1]}, "c": None}), ("weather", {})]
    for text in ("[f(1)]", "[g(a=1)]", "[f(__import__('os'))]", "f(a=1)"):
        assert parsed("pythonic", text) == ParsedAnswer(content=text)


def test_xml_types_follow_the_schema() -> None:
    text = "<function=weather><parameter=city>12</parameter><parameter=days>3</parameter><parameter=x>a b</parameter>"
    assert calls(parsed("qwen3_xml", text + "</function>")) == [("weather", {"city": "12", "days": 3, "x": "a b"})]


def test_forced_calls() -> None:
    text = '[{"name": "f", "arguments": {"a": 1}}, {"name": "f", "arguments": {}}]'
    assert calls(ParsedAnswer.of_text(text, forced_list_parser())) == [("f", {"a": 1}), ("f", {})]
    assert calls(ParsedAnswer.of_text(text, FirstCallOnly(forced_list_parser()))) == [("f", {"a": 1})]
    assert calls(in_pieces(NamedCallParser("g"), ["", "\n", '{"a"', ": 2}"])) == [("g", {"a": 2})]


FRAGMENTS = st.sampled_from(
    [
        *WHOLE.values(), *(marker for f in TOOL_FORMATS.values() for marker in f.markers),
        '{"name": "f", "arguments": {',
        '"', "{", "}", "[", "]", "(", ")", ",", ";", ":", "=", "\\", "\\u12", " ", "\n", "\n\n", "f", "weather", "name",
        '"name"', '"arguments": ', '"a": 1', "1", "-", "1e5", "tru", "'", "x y", "é", "\x01", "<", "</", "```",
        "<function=f>", "<parameter=city>", "</parameter>", "</function>", "<think>", "</think>", "<|im_end|>", "<|im",
        "functools", "```json", "Here is my thought process:",
    ]
)  # fmt: skip
TEXTS = st.lists(FRAGMENTS | st.text(max_size=4), max_size=14).map("".join)
PARSERS = {name: (lambda name=name: parser_of(name)) for name in TOOL_FORMATS} | {
    "all": lambda: chained(
        [
            without_tokens(["<|im_end|>", "<|im_start|>"]),
            REASONING["qwen3"].new_parser(Begin.UNSURE),
            parser_of("hermes"),
        ]
    ),
    "forced": forced_list_parser,
    "granite thoughts": lambda: chained([REASONING["granite"].new_parser(Begin.UNSURE), parser_of("granite")]),
}


def cut(text: str, places: list[int]) -> list[str]:
    ends = sorted({place % (len(text) + 1) for place in places} | {0, len(text)})
    return [text[a:b] for a, b in pairwise(ends)]


@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=120, deadline=None)
@given(text=TEXTS, places=st.lists(st.integers(0, 10_000), max_size=12), every=st.booleans())
def test_cuts_do_not_matter(name: str, text: str, places: list[int], every: bool) -> None:
    whole = ParsedAnswer.of_text(text, PARSERS[name]())
    assert in_pieces(PARSERS[name](), list(text) if every else cut(text, places)) == whole
    for call in whole.tool_calls:
        assert call.name
    if not whole.tool_calls and name not in ("all", "granite thoughts"):
        assert whole.content == text


@pytest.mark.parametrize("name", PARSERS)
def test_time_is_linear(name: str) -> None:
    """16 times the text takes well below 16 * 16 times as long, whatever is repeated."""

    def seconds(text: str) -> float:
        best = 1e9
        for _ in range(4):
            start = time.process_time()
            in_pieces(PARSERS[name](), [text[i : i + 3] for i in range(0, len(text), 3)])
            best = min(best, time.process_time() - start)
        return best

    for unit in ('<tool_call>{"name": "', "[[", "  ", '{"a": "\\', "<|tool_call|>", "1", "f(a=", "<"):
        assert seconds(unit * (6400 // len(unit))) < 80 * seconds(unit * (400 // len(unit))) + 0.01
