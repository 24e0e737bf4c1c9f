"""Tokens find the text that they belong to, however a parser cuts it."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from kvik.server.responses_api.logprobs import ContentLogprobs
from kvik.text.outputs import Logprob, PositionLogprobs


def positions(*tokens: str) -> list[PositionLogprobs]:
    return [{i: Logprob(-1.0, 1, token)} for i, token in enumerate(tokens)]


def taken(logprobs: ContentLogprobs, text: str) -> list[str]:
    return [entry["token"] for entry in logprobs.take(text)]


def test_markup_before_the_text_is_dropped() -> None:
    logprobs = ContentLogprobs(0, False)
    logprobs.add(positions("<think>", "hm", "</think>", "Hel", "lo"))
    logprobs.drop("hm")
    assert taken(logprobs, "Hello") == ["Hel", "lo"]


def test_a_token_that_two_pieces_share_belongs_to_the_first() -> None:
    logprobs = ContentLogprobs(0, False)
    logprobs.add(positions("Hello", " you"))
    assert taken(logprobs, "He") == ["Hello"]
    assert taken(logprobs, "llo you") == [" you"]


def test_nothing_is_asked_for_nothing_is_given() -> None:
    logprobs = ContentLogprobs(None, False)
    logprobs.add(positions("a"))
    assert logprobs.take("a") == []


@given(st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=8), st.data())
def test_all_tokens_of_a_text_are_given_once_whatever_the_pieces(tokens: list[str], data: st.DataObject) -> None:
    text = "".join(tokens)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=4)) | {0, len(text)})
    logprobs = ContentLogprobs(0, False)
    logprobs.add(positions(*tokens))
    found = [token for a, b in pairwise(cuts) for token in taken(logprobs, text[a:b])]
    assert found == tokens


def test_the_first_bytes_of_a_character_go_with_its_last() -> None:
    logprobs = ContentLogprobs(0, False)
    logprobs.add(positions("a", "", "", "\N{EURO SIGN}"))
    assert taken(logprobs, "a") == ["a"]
    assert taken(logprobs, "\N{EURO SIGN}") == ["", "", "\N{EURO SIGN}"]
