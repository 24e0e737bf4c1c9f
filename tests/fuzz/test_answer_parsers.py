"""Answers that are nearly calls or nearly reasoning: any text is read, and cuts in it do not matter."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from kvik.text.parsing import AnswerParser, ParsedAnswer
from kvik.text.parsing.deepseek import CALL_BEGIN, CALL_END, CALLS_BEGIN, CALLS_END, SEP
from kvik.text.parsing.forced import CallsAlone, FirstCallOnly, NamedCallParser, forced_list_parser
from kvik.text.parsing.formats import TOOL_FORMATS
from kvik.text.parsing.pipeline import chained, without_tokens
from kvik.text.parsing.reasoning import REASONING, Begin
from support.fuzzing import LONG_RUNS, SHORT_RUNS, Texts, cut_in_pieces, fuzz

TOOLS = {"f": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}}, "g": {}}
CALL = '{"name": "f", "arguments": {"a": "x\\n\\u00e9", "b": [1, -2.5e3, true, null, {"c": {}}]}}'
SEEDS = [
    f"Well. <tool_call>\n{CALL}\n</tool_call>\n<tool_call>{CALL}</tool_call>",
    f"<|tool_call|>[{CALL}, {CALL}]",
    f"<function_call> {CALL}",
    f"<tool_calls>[{CALL}]</tool_calls>",
    f"functools[{CALL}]",
    f"[TOOL_CALLS][{CALL}]",
    '[TOOL_CALLS]f{"a": "x"}',
    CALL,
    f"{CALLS_BEGIN}{CALL_BEGIN}function{SEP}f\n```json\n{{}}\n```{CALL_END}{CALLS_END}",
    f'{CALLS_BEGIN}{CALL_BEGIN}f{SEP}{{"a": 1}}{CALL_END}{CALLS_END}',
    """[f(a='x "y"', b=[1, -2.5e3, True, None, {'c': (1,)}]), g()]""",
    "<tool_call>\n<function=f>\n<parameter=a>\nx\n</parameter>\n<parameter=b>\n[1]\n</parameter>\n</function>\n"
    "</tool_call>",
    "<think>Hm, so.</think>\n\nSo it is.",
    "[THINK]Hm[/THINK]Yes. Here's my thought process: x Here's my response: y",
]
SPECIAL = ("<|im_end|>", "<s>")
PIECES = tuple(dict.fromkeys(m for f in (*TOOL_FORMATS.values(), *REASONING.values()) for m in f.markers))

MAKERS: list[Callable[[], AnswerParser]] = [
    *(lambda f=f: f.new_parser(TOOLS) for f in dict.fromkeys(TOOL_FORMATS.values())),  # type: ignore[misc]
    *(lambda f=f: f.new_parser({}) for f in dict.fromkeys(TOOL_FORMATS.values())),  # type: ignore[misc]
    *(lambda f=f, b=b: f.new_parser(b) for f in dict.fromkeys(REASONING.values()) for b in Begin),  # type: ignore[misc]
    forced_list_parser,
    lambda: NamedCallParser("f"),
    lambda: FirstCallOnly(TOOL_FORMATS["hermes"].new_parser(TOOLS)),
    lambda: CallsAlone(TOOL_FORMATS["mistral"].new_parser(TOOLS)),
    lambda: chained(
        [without_tokens(SPECIAL), REASONING["qwen3"].new_parser(Begin.UNSURE), TOOL_FORMATS["hermes"].new_parser(TOOLS)]
    ),
]


def in_pieces(parser: AnswerParser, pieces: list[str]) -> ParsedAnswer:
    answer = ParsedAnswer()
    for piece in pieces:
        answer.add(parser.push(piece))
    answer.add(parser.finish())
    return answer


def run(num_runs: int) -> str:
    rng = random.Random(7)
    inputs = Texts(SEEDS, rng, (*PIECES, *SPECIAL, CALL, "[" * 2_000, '{"a":' * 500, "9" * 5_000, "\\" * 99))

    def read() -> None:
        text = inputs.next()
        make = rng.choice(MAKERS)
        whole = ParsedAnswer.of_text(text, make())
        pieces = cut_in_pieces(text, rng)
        assert in_pieces(make(), pieces) == whole, (text, pieces)

    return fuzz(read, num_runs, ())


def test_some_answers() -> None:
    run(SHORT_RUNS)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_many_answers() -> None:
    print(f"answers: {run(LONG_RUNS)}")
