"""The vocabulary is read ahead once, and what goes wrong with that waits for the first request."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from kvik.grammar import matchers
from kvik.grammar.constraint import Constraint
from kvik.grammar.preparer import Preparer


class CountingMatchers:
    num_made = 0

    def __init__(self, model: Any) -> None:
        type(self).num_made += 1
        self.digits = None
        if model.is_broken:
            raise ValueError("no vocabulary")

    def matcher(self, compiled: str) -> object:
        return compiled


@pytest.mark.parametrize(("is_broken", "num_made"), [(False, 1), (True, 2)])
def test_the_vocabulary_is_read_ahead_once(monkeypatch: pytest.MonkeyPatch, is_broken: bool, num_made: int) -> None:
    monkeypatch.setattr(matchers, "Matchers", CountingMatchers)
    monkeypatch.setattr(CountingMatchers, "num_made", 0)
    preparer = Preparer(SimpleNamespace(is_broken=is_broken, spec=SimpleNamespace(vocab_size=8)))  # type: ignore[arg-type]
    assert not preparer.is_warm
    preparer.warm_up()
    preparer.warm_up()
    assert preparer.is_warm
    wish = SimpleNamespace(
        compiled="g",
        ending_ids=frozenset({7}),
        starts_after=[],
        prompt_token_ids=[1],
        answer_token_ids=[],
        bounds_digits=False,
    )
    preparer.submit("a", wish)
    preparer.wait(10)
    ((request_id, made),) = preparer.take_ready()
    assert (request_id, isinstance(made, str)) == ("a", is_broken)
    assert CountingMatchers.num_made == num_made
    preparer.close()


class RecordingMatcher:
    def __init__(self) -> None:
        self.consumed: list[int] = []

    def consume_token(self, token_id: int) -> None:
        self.consumed.append(token_id)

    def is_error(self) -> bool:
        return 13 in self.consumed

    def get_error(self) -> str:
        return "13 is not in the grammar"


@pytest.mark.parametrize(("before", "is_right"), [([5, 9, 3, 4], True), ([5, 9, 13], False)])
def test_an_answer_goes_on_from_what_another_engine_generated(before: list[int], is_right: bool) -> None:
    matcher = RecordingMatcher()
    preparer = Preparer(SimpleNamespace(spec=SimpleNamespace(vocab_size=8)))  # type: ignore[arg-type]
    preparer._matchers = SimpleNamespace(matcher=lambda compiled: matcher, digits=None)  # type: ignore[assignment]
    wish = SimpleNamespace(
        compiled="g",
        ending_ids=frozenset({7}),
        starts_after=[9],
        prompt_token_ids=[1],
        answer_token_ids=before,
        bounds_digits=False,
    )
    preparer.submit("a", wish)
    preparer.wait(10)
    ((_, made),) = preparer.take_ready()
    assert matcher.consumed == before[2:], "the grammar begins behind its marker"
    assert isinstance(made, Constraint) == is_right
    preparer.close()
