"""The fuzzer itself finds what it is there for."""

from __future__ import annotations

import random

import pytest

from support import fuzzing
from support.fuzzing import Bytes, Texts, cut_in_pieces, fuzz


def test_another_exception_is_told_with_its_run() -> None:
    with pytest.raises(KeyError) as caught:
        fuzz(lambda: {}["x"], 10, (ValueError,))
    assert caught.value.__notes__ == ["in run 0 of this fuzzer"]


def test_a_length_that_is_believed_is_a_finding() -> None:
    with pytest.raises(MemoryError):
        fuzz(lambda: bytes(2**40), 10, (ValueError,))


def test_time_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzzing, "MAX_RUN_S", 0.001)
    with pytest.raises(AssertionError, match="took"):
        fuzz(lambda: sum(range(2_000_000)), 1, ())


def test_the_same_seed_gives_the_same_inputs() -> None:
    for make in (lambda: Bytes([b"abcdefgh"], random.Random(1)), lambda: Texts(["abcdefgh"], random.Random(1))):
        one, other = make(), make()
        inputs = [one.next() for _ in range(200)]
        assert inputs == [other.next() for _ in range(200)]
        assert len(set(inputs)) > 100


def test_pieces_are_the_text() -> None:
    assert all("".join(cut_in_pieces("some text", random.Random(seed))) == "some text" for seed in range(50))
