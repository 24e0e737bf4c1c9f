from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvik.text.stop_strings import StopMatch, StopStrings

STOPS = st.lists(st.text("ab", min_size=1, max_size=5), min_size=1, max_size=3)


def test_the_match_that_is_complete_first_wins() -> None:
    assert StopStrings(["bcde", "cd"]).find("abcdef", 0) == StopMatch("cd", 2, 4)


def test_of_two_that_end_together_the_first_given_wins() -> None:
    assert StopStrings(["cd", "bcd"]).find("abcd", 0) == StopMatch("cd", 2, 4)
    assert StopStrings(["bcd", "cd"]).find("abcd", 0) == StopMatch("bcd", 1, 4)


def test_a_match_may_begin_in_searched_text_but_not_end_there() -> None:
    stops = StopStrings(["ab"])
    assert stops.find("xab", 2) == StopMatch("ab", 1, 3)
    assert stops.find("xab", 3) is None


def test_held_is_the_longest_beginning_of_a_stop() -> None:
    assert StopStrings(["abc", "bcd"]).num_held("xxbc") == 2
    assert StopStrings(["abab"]).num_held("xaba") == 3
    assert StopStrings(["abc"]).num_held("xabcx") == 0
    assert StopStrings([]).num_held("abc") == 0


@given(st.text("ab", max_size=30), STOPS)
def test_searching_a_growing_text_finds_what_searching_it_whole_finds(text: str, stops: list[str]) -> None:
    whole = StopStrings(stops).find(text, 0)
    grown = next((m for n in range(1, len(text) + 1) if (m := StopStrings(stops).find(text[:n], n - 1))), None)
    assert grown == whole


@given(st.text("ab", max_size=20), st.text("ab", max_size=5), STOPS)
def test_held_characters_are_the_only_ones_a_later_match_can_take(text: str, more: str, stops: list[str]) -> None:
    matcher = StopStrings(stops)
    match = matcher.find(text + more, len(text))
    if match is not None and match.start < len(text):
        assert match.start >= len(text) - matcher.num_held(text)
