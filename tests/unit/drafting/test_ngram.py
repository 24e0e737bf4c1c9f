from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvik.drafting.ngram import NgramProposer, continue_from
from kvik.drafting.proposal import NOTHING


@given(st.lists(st.integers(0, 2), max_size=60), st.integers(1, 4), st.integers(0, 3), st.integers(1, 8))
def test_the_newest_of_the_longest_matches(tokens: list[int], low: int, more: int, count: int) -> None:
    """Against all lengths and all places, the longest and the newest first; grown token by token."""
    grown: list[int] = []
    proposer = NgramProposer(grown, low, low + more)
    proposal = NOTHING
    for token in tokens:
        grown.append(token)
        proposal = proposer.propose(count)
    for length in range(low + more, low - 1, -1):
        for start in range(len(tokens) - length - 1, -1, -1):
            if tokens[start : start + length] == tokens[len(tokens) - length :]:
                assert proposal.match_length == length
                assert proposal.token_ids == continue_from(tokens, start + length, count)
                return
    assert proposal == NOTHING


def test_a_short_period_goes_on() -> None:
    assert continue_from([7, 1, 2], 1, 5) == [1, 2, 1, 2, 1]
    assert NgramProposer([5, 9, 9, 9], 2, 4).propose(4).token_ids == [9, 9, 9, 9]


def test_what_followed_is_copied() -> None:
    proposal = NgramProposer([1, 2, 3, 4, 5, 6, 8, 2, 3], 2, 4).propose(3)
    assert (proposal.token_ids, proposal.match_length) == ([4, 5, 6], 2)
