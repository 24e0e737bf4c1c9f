from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.sse_server import HEAD, LAST, chunk
from kvik.bench.answer import Answer, read_answer
from kvik.bench.client import RawAnswer

STREAM = b"".join(
    [HEAD, chunk('{"choices": [{"text": "a"}]}'), chunk('{"choices": [{"text": "\\u00e6"}]}'),
     chunk('{"choices": [{"text": "", "finish_reason": "stop"}], "usage": {"completion_tokens": 3}}'),
     chunk("[DONE]"), LAST]
)  # fmt: skip


def raw(pieces: list[bytes], first_s: float = 10.0) -> RawAnswer:
    """Pieces that came a second apart, the first a second after the request."""
    return RawAnswer(first_s, pieces, [first_s + 1 + i for i in range(len(pieces))])


@given(st.lists(st.integers(0, len(STREAM)), max_size=12).map(sorted))
def test_the_answer_does_not_depend_on_where_the_bytes_are_cut(cuts: list[int]) -> None:
    edges = [0, *cuts, len(STREAM)]
    answer = read_answer(raw([STREAM[a:b] for a, b in pairwise(edges)]), 5)
    assert (answer.error, answer.text, answer.num_output_tokens, answer.num_prompt_tokens) == ("", "aæ", 3, 5)
    assert len(answer.itl_s) == 1


@given(st.lists(st.binary(max_size=40), max_size=5), st.sampled_from([b"", HEAD, b"HTTP/1.1 200 OK\r\n\r\n"]))
def test_no_bytes_raise(pieces: list[bytes], head: bytes) -> None:
    assert not read_answer(raw([head, *pieces]), 1).is_success


def test_times_are_those_of_the_piece_that_completes_an_event() -> None:
    first, second = chunk('{"choices": [{"text": "a"}]}'), chunk('{"choices": [{"text": "b"}]}')
    done = chunk("[DONE]") + LAST
    answer = read_answer(raw([HEAD, first[:9], first[9:], second, second, done]), 1)
    assert answer.ttft_s == 3
    assert answer.itl_s == [1, 1]
    assert answer.latency_s == 5
    assert answer.num_output_tokens == 3


def test_a_chats_role_and_a_lone_end_are_no_tokens() -> None:
    events = [
        '{"choices": [{"delta": {"role": "assistant", "content": ""}}]}', '{"choices": [{"delta": {"content": "x"}}]}',
        '{"choices": [{"delta": {}, "finish_reason": "stop"}]}', "[DONE]",
    ]  # fmt: skip
    answer = read_answer(raw([HEAD, *map(chunk, events), LAST]), 1)
    assert (answer.ttft_s, answer.itl_s, answer.latency_s, answer.num_output_tokens) == (3, [], 4, 1)


def test_an_answer_without_any_token_is_lost() -> None:
    assert read_answer(raw([HEAD, chunk("[DONE]"), LAST]), 1).error == "the answer holds no token"


def test_a_body_that_is_not_chunked_and_has_comments() -> None:
    body = b': ping\r\n\r\ndata:{"choices":[{"text":"a"}]}\r\n\r\ndata: [DONE]\r\n\r\n'
    assert read_answer(raw([b"HTTP/1.1 200 OK\r\n\r\n" + body]), 1).text == "a"


@pytest.mark.parametrize(("tokens", "tpot"), [(0, None), (1, None), (2, 3.0), (4, 1.0)])
def test_time_per_output_token_leaves_the_first_out(tokens: int, tpot: float | None) -> None:
    assert Answer(0.0, num_output_tokens=tokens, ttft_s=2.0, latency_s=5.0).tpot_s == tpot
