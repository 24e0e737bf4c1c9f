from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from fakes.byte_tokenizer import EOS, HELLO, TWO_THIRDS_OF_EURO, VOCAB_SIZE, byte_tokenizer
from kvik.sampling_params import SamplingParams
from kvik.text.detokenizer import Detokenizer

TOKENIZER = byte_tokenizer()
TOKENS = st.one_of(st.integers(0, VOCAB_SIZE - 1), st.sampled_from([*b"ab"]))
STOPS = st.lists(st.text("ab", min_size=1, max_size=4), max_size=3)


def make(**params: object) -> Detokenizer:
    return Detokenizer(TOKENIZER, [], SamplingParams(**params))  # type: ignore[arg-type]


def ids(text: str) -> list[int]:
    return TOKENIZER.encode(text, add_special_tokens=False)


def run(chunks: Sequence[list[int]], detokenizer: Detokenizer) -> tuple[str, str | None, int]:
    """Text, stop string and kept tokens; checks on the way that shown text only grows."""
    num_kept, shown = 0, ""
    for chunk in chunks:
        kept, stop = detokenizer.push(chunk)
        num_kept += kept
        assert detokenizer.text.startswith(shown)
        shown = detokenizer.text
        if stop is not None:
            return shown, stop, num_kept
    stop = detokenizer.finish()
    assert detokenizer.text.startswith(shown)
    return detokenizer.text, stop, num_kept


@given(st.lists(st.lists(TOKENS, max_size=8), max_size=8), STOPS, st.integers(0, 5), st.booleans())
def test_how_tokens_are_split_into_deltas_does_not_matter(
    chunks: list[list[int]], stops: list[str], min_tokens: int, include: bool
) -> None:
    params = {"stop": stops, "min_tokens": min_tokens, "include_stop_str_in_output": include}
    tokens = [token for chunk in chunks for token in chunk]
    assert run(chunks, make(**params)) == run([tokens], make(**params)) == run([[t] for t in tokens], make(**params))


@given(st.lists(TOKENS, max_size=40))
def test_without_stop_strings_the_text_is_that_of_all_tokens(tokens: list[int]) -> None:
    assert run([[t] for t in tokens], make()) == (TOKENIZER.decode(tokens), None, len(tokens))


@given(st.text("ab ", max_size=30), st.lists(st.text("ab ", min_size=1, max_size=4), min_size=1, max_size=3))
def test_the_text_ends_at_the_stop_that_is_complete_first(text: str, stops: list[str]) -> None:
    ends = [(text.find(s) + len(s), n, s) for n, s in enumerate(stops) if s in text]
    end, _, stop = min(ends, default=(len(text), 0, None))
    start = end - len(stop) if stop else end
    shown, found, _ = run([[t] for t in text.encode()], make(stop=stops))
    assert (shown, found) == (text[:start], stop)
    shown, found, _ = run([[t] for t in text.encode()], make(stop=stops, include_stop_str_in_output=True))
    assert (shown, found) == (text[:end], stop)


def test_a_stop_string_across_tokens_is_held_back_and_cut() -> None:
    detokenizer = make(stop=["lo w"])
    assert detokenizer.push([HELLO]) == (1, None)
    assert detokenizer.text == " hel"
    assert detokenizer.push([*b" world"]) == (2, "lo w")
    assert detokenizer.text == " hel"


def test_what_was_held_back_in_vain_comes_out() -> None:
    detokenizer = make(stop=["lo w"])
    detokenizer.push([HELLO])
    detokenizer.push([*b"!"])
    assert detokenizer.text == " hello!"
    detokenizer.push([HELLO])
    assert detokenizer.finish() is None
    assert detokenizer.text == " hello! hello"


def test_text_of_the_first_min_tokens_is_not_searched() -> None:
    assert run([[HELLO, HELLO, HELLO]], make(stop=["hello"], min_tokens=2)) == (" hello hello ", "hello", 3)


def test_the_text_of_a_stop_token_is_left_out_unless_asked_for() -> None:
    eos_shown = {"skip_special_tokens": False}
    for params, text in (
        ({}, "a"),
        (eos_shown, "a"),
        (eos_shown | {"include_stop_str_in_output": True}, "a<|end|>"),
        ({"include_stop_str_in_output": True}, "a"),
    ):
        detokenizer = make(**params)
        assert detokenizer.push([ord("a"), EOS], ends_with_stop_token=True) == (2, None)
        detokenizer.finish()
        assert detokenizer.text == text


def test_a_broken_character_at_the_end_is_shown_at_the_end() -> None:
    detokenizer = make()
    detokenizer.push([TWO_THIRDS_OF_EURO])
    assert detokenizer.text == ""
    detokenizer.finish()
    assert detokenizer.text == "\ufffd"


def test_detokenize_false_and_no_tokenizer_give_no_text() -> None:
    for detokenizer in (make(detokenize=False), Detokenizer(None, [], SamplingParams())):
        assert detokenizer.push(ids("hello")) == (len(ids("hello")), None)
        assert (detokenizer.finish(), detokenizer.text) == (None, "")
