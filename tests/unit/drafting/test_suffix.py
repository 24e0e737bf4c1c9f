from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvik.drafting.past_answers import PastAnswers
from kvik.drafting.proposal import NOTHING
from kvik.drafting.suffix import SuffixProposer, SuffixRules

RULES = SuffixRules(max_match=24, max_spec_factor=1.0, min_token_prob=0.1)


def propose(
    tokens: list[int], count: int = 16, rules: SuffixRules = RULES, past: PastAnswers | None = None
) -> list[int]:
    return SuffixProposer(tokens, rules, past).propose(count).token_ids


def test_the_draft_is_as_long_as_the_match_speaks_for() -> None:
    text = list(range(20))
    assert propose([*text, 2, 3]) == [4, 5]
    assert propose([*text, 2, 3, 4, 5, 6]) == [7, 8, 9, 10, 11]
    assert propose([*text, 2, 3, 4, 5, 6], count=3) == [7, 8, 9]
    assert propose([*text, 2, 3], rules=RULES._replace(max_spec_factor=2.0)) == [4, 5, 6, 7]


def test_the_most_frequent_token_wins() -> None:
    assert propose([1, 2, 7, 0, 1, 2, 7, 0, 1, 2, 9, 0, 5, 1, 2])[:1] == [7]


def test_an_unlikely_branch_is_not_followed() -> None:
    text = [1, 2, 3, 0, 1, 2, 4, 8, 1, 2, 5, 6, 1, 2]
    assert propose(text, rules=RULES._replace(min_token_prob=0.5)) == []
    assert len(propose(text, rules=RULES._replace(min_token_prob=0.3))) == 2


def test_answers_of_earlier_requests() -> None:
    past = PastAnswers(10, gram=2)
    past.add([10, 11, 12, 13])
    assert propose([5, 10, 11], past=past) == [12, 13]
    assert propose([5, 10, 11]) == []
    assert propose([5, 11, 12, 13], past=past) == []  # nothing follows the end of an answer


tokens = st.lists(st.integers(0, 2), min_size=1, max_size=40)


@given(tokens, st.lists(tokens, max_size=3), st.integers(1, 8), st.floats(0.5, 3), st.floats(0, 1))
def test_a_draft_keeps_its_rules(
    text: list[int], answers: list[list[int]], count: int, factor: float, min_prob: float
) -> None:
    past = PastAnswers(100, gram=2)
    for answer in answers:
        past.add(answer)
    rules = SuffixRules(6, factor, min_prob)
    proposal = SuffixProposer(text, rules, past).propose(count)
    if proposal == NOTHING:
        return
    assert 2 <= proposal.match_length <= 6
    assert 1 <= len(proposal.token_ids) <= min(count, int(factor * proposal.match_length))
    followed = [*text[len(text) - proposal.match_length :], proposal.token_ids[0]]
    sources = [[*text, *proposal.token_ids], *answers]
    assert any(followed == s[i : i + len(followed)] for s in sources for i in range(len(s)))
