"""Drafts for the requests of one step: proposers per request, and the gate that says how many of their tokens pay.

Knows requests by id and by their token ids only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kvik.config.speculative import SpeculativeConfig
from kvik.drafting.acceptance import Acceptance
from kvik.drafting.gate import Gate, Hope
from kvik.drafting.ngram import NgramProposer
from kvik.drafting.past_answers import PastAnswers
from kvik.drafting.proposal import Proposal, Proposer
from kvik.drafting.suffix import MIN_MATCH, SuffixProposer, SuffixRules


class Candidate(NamedTuple):
    """A request that could have drafts in this step."""

    request_id: str
    token_ids: list[int]
    """Prompt and answer: the same list each time, lengthened by its owner."""
    max_drafts: int
    """Its length limit and the step leave room for so many."""
    is_private: bool
    """Drafts from its own tokens only."""


class _Writer:
    """What is remembered of one request: its index, its guess, and how its guesses do."""

    __slots__ = ("acceptance", "guess", "guess_at", "proposer")

    def __init__(self, proposer: Proposer, acceptance: Acceptance) -> None:
        self.proposer = proposer
        self.acceptance = acceptance
        self.guess = Proposal([], 0)
        self.guess_at = 0
        """Position of the guess's first token."""

    def propose(self, candidate: Candidate) -> Proposal:
        self._check_guess(candidate.token_ids)
        self.guess = self.proposer.propose(candidate.max_drafts)
        self.guess_at = len(candidate.token_ids)
        return self.guess

    def _check_guess(self, token_ids: Sequence[int]) -> None:
        """Compare the last guess with what came, whether it was computed as a draft or not."""
        came = token_ids[self.guess_at : self.guess_at + len(self.guess.token_ids)]
        if not came:
            return
        num_right = next(
            (i for i, (guessed, true) in enumerate(zip(self.guess.token_ids, came, strict=False)) if guessed != true),
            len(came),
        )
        self.acceptance.learn(self.guess.match_length, num_right, is_refuted=num_right < len(came))


class Drafter:
    """One engine's. `propose` once per step of decoding requests, `learn` when it has run, `forget` when one ends."""

    def __init__(self, config: SpeculativeConfig) -> None:
        self._config = config
        self._gate = Gate(config.max_drafts_per_step)
        self._acceptance = Acceptance(fading=0.99)
        self._writers: dict[str, _Writer] = {}
        self._past: PastAnswers | None = None
        if config.method == "suffix" and config.suffix_decoding_max_cached_requests:
            self._past = PastAnswers(config.suffix_decoding_max_cached_requests, MIN_MATCH)

    def propose(self, candidates: Sequence[Candidate]) -> list[list[int]]:
        """Drafts per candidate, empty for most; `candidates` are all requests of the step."""
        proposals = [self._writer(c).propose(c) if c.max_drafts > 0 else Proposal([], 0) for c in candidates]
        hopes = [
            Hope(
                len(p.token_ids),
                self._writers[c.request_id].acceptance.probability(p.match_length) if p.token_ids else 0,
            )
            for c, p in zip(candidates, proposals, strict=True)
        ]
        counts = self._gate.choose(len(candidates), hopes)
        return [p.token_ids[:count] for p, count in zip(proposals, counts, strict=True)]

    def learn(self, num_rows: int, num_drafts: int, seconds: float) -> None:
        """A step in which each request had one token and `num_drafts` drafts in all, `num_rows` together."""
        self._gate.learn(num_rows, num_drafts, seconds)

    def forget(self, request_id: str, answer: Sequence[int], *, is_private: bool) -> None:
        """A request is over. Later ones may draft from its answer, unless it is private."""
        self._writers.pop(request_id, None)
        if self._past is not None and not is_private:
            self._past.add(answer)

    def _writer(self, candidate: Candidate) -> _Writer:
        writer = self._writers.get(candidate.request_id)
        if writer is None:
            writer = _Writer(self._proposer(candidate), Acceptance(prior=self._acceptance))
            self._writers[candidate.request_id] = writer
        return writer

    def _proposer(self, candidate: Candidate) -> Proposer:
        config = self._config
        if config.method == "ngram":
            return NgramProposer(candidate.token_ids, config.prompt_lookup_min, config.prompt_lookup_max)
        rules = SuffixRules(
            config.suffix_decoding_max_tree_depth,
            config.suffix_decoding_max_spec_factor,
            config.suffix_decoding_min_token_prob,
        )
        return SuffixProposer(candidate.token_ids, rules, None if candidate.is_private else self._past)
