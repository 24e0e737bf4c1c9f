from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvik.drafting.past_answers import END_OF_ANSWER, PastAnswers


@given(st.lists(st.lists(st.integers(0, 9), max_size=12), max_size=60), st.integers(2, 12), st.integers(8, 60))
def test_bounded_and_the_newest_is_there(answers: list[list[int]], max_answers: int, max_tokens: int) -> None:
    past = PastAnswers(max_answers, 2, max_tokens)
    for answer in answers:
        past.add(answer)
        kept = [token for history in past.histories for token in history.token_ids]
        assert len(kept) <= max_tokens
        assert kept.count(END_OF_ANSWER) <= max_answers
        if 2 * (len(answer) + 1) <= max_tokens:
            assert past.histories[0].token_ids[-len(answer) - 1 :] == [*answer, END_OF_ANSWER]
