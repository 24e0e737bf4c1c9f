"""The whole room against made-up texts and a made-up machine: what it gains, and that it never costs much."""

from __future__ import annotations

import random

import pytest

from kvik.config.speculative import SpeculativeConfig
from kvik.drafting import Candidate, Drafter

NGRAM = SpeculativeConfig("ngram", 5, prompt_lookup_min=2, prompt_lookup_max=4)
SUFFIX = SpeculativeConfig("suffix", 8)
both = pytest.mark.parametrize("config", [NGRAM, SUFFIX], ids=lambda c: c.method)


def seconds(num_rows: int) -> float:
    """As measured with a small model: a sixth row costs a third of the first."""
    return 0.010 * (1 + 0.065 * (num_rows - 1))


def write(
    drafter: Drafter, prompt: list[int], answer: list[int], request_id: str = "a", *, private: bool = False
) -> float:
    """Seconds that the answer takes, with drafts as the drafter likes them."""
    known, spent = [*prompt, answer[0]], 0.0
    everything = prompt + answer
    while len(known) < len(everything):
        max_drafts = min(drafter._config.num_speculative_tokens, len(everything) - len(known) - 1)
        (draft,) = drafter.propose([Candidate(request_id, known, max_drafts, private)])
        assert len(draft) <= max_drafts
        spent += seconds(1 + len(draft))
        drafter.learn(1 + len(draft), len(draft), seconds(1 + len(draft)))
        for token in [*draft, -1]:
            known.append(everything[len(known)])
            if known[-1] != token:
                break
    drafter.forget(request_id, answer, is_private=private)
    return spent


def words(seed: int, count: int, vocabulary: int = 20000) -> list[int]:
    draw = random.Random(seed)
    return [draw.randrange(vocabulary) for _ in range(count)]


@both
def test_an_answer_that_quotes_is_more_than_twice_as_fast(config: SpeculativeConfig) -> None:
    source = words(1, 1000)
    answer = words(2, 20) + source[100:250] + words(3, 20) + source[500:600]
    assert write(Drafter(config), source, answer) < (len(answer) - 1) * seconds(1) / 2


@both
@pytest.mark.parametrize("vocabulary", [20000, 60, 12])
def test_an_answer_that_does_not_repeat_costs_nothing_worth_mentioning(
    config: SpeculativeConfig, vocabulary: int
) -> None:
    """With few words, matches abound and mean nothing."""
    drafter = Drafter(config)
    for number in range(3):
        prompt, answer = words(number, 300, vocabulary), words(100 + number, 300, vocabulary)
        spent = write(drafter, prompt, answer, str(number))
        assert spent < (len(answer) - 1) * seconds(1) / 0.97


@both
def test_an_answer_that_begins_to_quote_late(config: SpeculativeConfig) -> None:
    """Guesses are checked while the gate is closed, so it opens when they begin to come true."""
    source = words(1, 60, 12)
    answer = words(2, 300, 12) + words(5, 200) * 2
    drafter = Drafter(config)
    quoted_alone = 200 * seconds(1)
    assert write(drafter, source, answer) < (len(answer) - 1) * seconds(1) - quoted_alone / 3


def test_answers_of_others_are_drafted_from_unless_a_request_is_private() -> None:
    answer = words(1, 200)
    plain = (len(answer) - 1) * seconds(1)
    drafter = Drafter(SUFFIX)
    assert write(drafter, words(2, 10), answer, "first") > 0.99 * plain
    assert write(drafter, words(3, 10), answer, "private", private=True) > 0.99 * plain
    assert write(drafter, words(4, 10), answer, "second") < plain / 2
    drafter = Drafter(SUFFIX)
    write(drafter, words(2, 10), answer, "private", private=True)
    assert write(drafter, words(4, 10), answer, "other") > 0.99 * plain


def test_a_request_without_room_has_no_draft_and_a_batch_of_many_is_one_choice() -> None:
    drafter = Drafter(NGRAM)
    text = [1, 2, 3, 4] * 5
    candidates = [Candidate("a", list(text), 5, False), Candidate("b", list(text), 0, False)]
    assert drafter.propose(candidates) == [[], []]  # no plain step was measured yet
    drafter.learn(2, 0, 0.01)
    drafts = drafter.propose(candidates)
    assert drafts[0] == [1, 2, 3, 4, 1][: len(drafts[0])]
    assert drafts[0]
    assert drafts[1] == []
