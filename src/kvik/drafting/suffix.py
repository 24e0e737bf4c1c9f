"""Suffix decoding: as many tokens as the matches speak for (Oliaro et al., SuffixDecoding, 2024).

The paper's suffix tree counts how often each token followed a pattern. Here the counts are taken when they are needed,
from the newest occurrences of the pattern, in the request's own tokens and in earlier answers: no tree is kept.
Each match length that occurs gives a draft, extended by the token that most occurrences of that length have next while
the share of those that agree stays likely enough; the draft of the highest expected number of right tokens wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from kvik.drafting.history import TokenHistory
from kvik.drafting.past_answers import END_OF_ANSWER, PastAnswers
from kvik.drafting.proposal import NOTHING, Proposal

MIN_MATCH = 2
"""Tokens. What follows a single token says next to nothing about what will."""
MAX_LENGTHS = 4
"""Match lengths that are tried, the longest first."""


class SuffixRules(NamedTuple):
    """Limits of a draft, as `SpeculativeConfig` names them."""

    max_match: int
    max_spec_factor: float
    """Tokens drafted per token matched."""
    min_token_prob: float


class _Follower(NamedTuple):
    """An occurrence of the context, `length` tokens long, and where its text goes on."""

    length: int
    token_ids: Sequence[int]
    next_position: int

    def token(self, draft: list[int], ahead: int) -> int:
        """The token so far ahead; behind the end of the text, the draft that would stand there."""
        at = self.next_position + ahead
        if at < len(self.token_ids):
            return self.token_ids[at]
        at -= len(self.token_ids)
        return draft[at] if at < len(draft) else END_OF_ANSWER


class SuffixProposer:
    """`token_ids` are one request's prompt and answer, lengthened by their owner; `past` is for reading only."""

    def __init__(self, token_ids: list[int], rules: SuffixRules, past: PastAnswers | None) -> None:
        self._own = TokenHistory(token_ids, MIN_MATCH)
        self._rules = rules
        self._past = past

    def propose(self, max_tokens: int) -> Proposal:
        self._own.catch_up()
        followers = list(self._followers())
        lengths = sorted({f.length for f in followers}, reverse=True)[:MAX_LENGTHS]
        best, best_score = NOTHING, 0.0
        for length in lengths:
            count = min(max_tokens, int(self._rules.max_spec_factor * length))
            draft, score = _vote((f for f in followers if f.length >= length), count, self._rules.min_token_prob)
            if score > best_score:
                best, best_score = Proposal(draft, length), score
        return best

    def _followers(self) -> Iterable[_Follower]:
        context = self._own.token_ids
        for history in [self._own, *(self._past.histories if self._past else ())]:
            for length, next_position in history.occurrences(context, self._rules.max_match):
                yield _Follower(length, history.token_ids, next_position)


def _vote(followers: Iterable[_Follower], count: int, min_prob: float) -> tuple[list[int], float]:
    """A draft of at most `count` tokens, and the number of them that are expected to be right."""
    agreeing = list(followers)
    draft: list[int] = []
    prob, score = 1.0, 0.0
    while len(draft) < count:
        votes: dict[int, list[_Follower]] = {}
        for follower in agreeing:
            votes.setdefault(follower.token(draft, len(draft)), []).append(follower)
        token_id, supporters = max(votes.items(), key=lambda item: len(item[1]))
        prob *= len(supporters) / len(agreeing)
        if token_id == END_OF_ANSWER or prob < min_prob:
            break
        draft.append(token_id)
        score += prob
        agreeing = supporters
    return draft, score
