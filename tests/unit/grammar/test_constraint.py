"""Masks along an answer: ends, guesses and their undoing, constraints that begin later."""

from __future__ import annotations

import numpy as np
import pytest

from support.schemas import VOCABULARY
from unit.grammar.conftest import EOS, MakeConstraint


def allowed(mask: np.ndarray) -> set[bytes]:
    ids = np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little"))
    return {VOCABULARY[i] if i < len(VOCABULARY) else b"<end>" for i in ids}


def test_ends_are_allowed_exactly_where_the_grammar_accepts(constrain: MakeConstraint) -> None:
    constraint = constrain((EOS,), regex="ab?")
    assert allowed(constraint.masks()[0]) == {b"a", b"ab"}
    assert constraint.advance(ord("a"))
    assert allowed(constraint.masks()[0]) == {b"b", b"\x00", b"<end>"}
    assert not constraint.is_complete
    assert constraint.advance(ord("b"))
    assert constraint.is_complete


def test_guesses_have_masks_and_leave_no_trace(constrain: MakeConstraint) -> None:
    constraint = constrain((EOS,), regex="abc?d")
    masks = constraint.masks([ord("a"), ord("b"), ord("c"), ord("d")])
    assert [allowed(mask) for mask in masks] == [{b"a", b"ab"}, {b"b"}, {b"c", b"d"}, {b"d"}, {b"\x00", b"<end>"}]
    assert not constraint.is_complete
    assert allowed(constraint.masks()[0]) == {b"a", b"ab"}
    assert constraint.count_valid([ord("a"), ord("b"), ord("x")]) == 2
    assert allowed(constraint.masks([ord("x"), ord("b")])[1]) == set()
    assert constraint.error is None


def test_a_token_that_the_grammar_does_not_have_is_an_error(constrain: MakeConstraint) -> None:
    constraint = constrain(regex="ab")
    assert not constraint.advance(ord("x"))
    assert "cannot be followed" in (constraint.error or "")
    assert not constraint.is_complete


def test_a_constraint_that_begins_after_a_marker(constrain: MakeConstraint) -> None:
    marker = [ord("<"), ord(">")]
    constraint = constrain((EOS,), regex="ab", starts_after=marker)
    assert constraint.masks() is None
    free, also_free, on = constraint.masks(marker)
    assert len(allowed(free)) == len(allowed(also_free)) >= len(VOCABULARY)
    assert allowed(on) == {b"a", b"ab"}
    assert constraint.masks() is None
    for token_id in (ord("x"), *marker):
        assert constraint.advance(token_id)
    assert allowed(constraint.masks()[0]) == {b"a", b"ab"}


def test_a_marker_at_the_prompts_end_counts(constrain: MakeConstraint) -> None:
    marker = [ord("<"), ord(">")]
    assert constrain(regex="ab", starts_after=marker, prompt=(1, *marker, 10, 10)).masks() is not None
    assert constrain(regex="ab", starts_after=marker, prompt=(*marker, *range(20, 40))).masks() is None


@pytest.mark.parametrize("text", ["red wine", 'a/b \\ "quoted"\n', "日本 é"])
def test_choices_are_taken_letter_by_letter(text: str, constrain: MakeConstraint) -> None:
    constraint = constrain(choice=["red", text, "other"])
    assert all(constraint.advance(byte) for byte in text.encode())
    assert constraint.is_complete
