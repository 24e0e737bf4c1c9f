from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvik.drafting.history import MAX_OCCURRENCES, Occurrence, TokenHistory

texts = st.lists(st.integers(0, 2), max_size=40)


def expected(tokens: list[int], context: list[int], gram: int, max_length: int) -> list[Occurrence]:
    """By looking everywhere, the newest first."""
    found = []
    is_own = context is tokens
    for end in range(len(tokens) - 1 - is_own, -1, -1):
        length = 0
        while (
            length < min(max_length, end + 1, len(context))
            and tokens[end - length] == context[len(context) - 1 - length]
        ):
            length += 1
        if length >= gram:
            found.append(Occurrence(length, end + 1))
    return found[:MAX_OCCURRENCES]


@given(texts, st.lists(st.integers(0, 40), max_size=4), st.integers(1, 4), st.integers(0, 6))
def test_own_context_against_looking_everywhere(text: list[int], cuts: list[int], gram: int, num_more: int) -> None:
    tokens: list[int] = []
    history = TokenHistory(tokens, gram)
    for cut in [*sorted(cuts), len(text)]:
        tokens += text[len(tokens) : cut]
        history.catch_up()
        assert list(history.occurrences(tokens, gram + num_more)) == expected(tokens, tokens, gram, gram + num_more)


@given(texts, texts, st.integers(1, 4), st.integers(0, 6))
def test_a_foreign_context_against_looking_everywhere(
    tokens: list[int], context: list[int], gram: int, num_more: int
) -> None:
    history = TokenHistory(tokens, gram)
    history.catch_up()
    assert list(history.occurrences(context, gram + num_more)) == expected(tokens, context, gram, gram + num_more)


def test_only_the_newest_occurrences_are_looked_at() -> None:
    tokens = [1, 2] * (MAX_OCCURRENCES + 10)
    history = TokenHistory(tokens, 2)
    history.catch_up()
    found = list(history.occurrences(tokens, 2))
    assert len(found) == MAX_OCCURRENCES
    assert found[0] == Occurrence(2, len(tokens) - 2)
