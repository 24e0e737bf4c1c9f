from __future__ import annotations

import pytest

from kvik.engine_client.arrivals import Arrivals, is_named


@pytest.mark.parametrize(
    ("request_id", "asked", "expected"),
    [
        ("cmpl-a", "cmpl-a", True),
        ("cmpl-a-3", "cmpl-a", True),
        ("cmpl-a-3", "cmpl-a-3", True),
        ("cmpl-a-33", "cmpl-a-3", False),
        ("cmpl-ab", "cmpl-a", False),
        ("cmpl-a-x", "cmpl-a", False),
        ("cmpl-a-٣", "cmpl-a", False),
        ("cmpl-a", "cmpl", False),
        ("a", "", False),
    ],
)
def test_an_id_names_a_request_and_its_prompts(request_id: str, asked: str, expected: bool) -> None:
    assert is_named(request_id, asked) == expected


def test_only_what_is_on_its_way_is_found() -> None:
    arrivals = Arrivals()
    with arrivals.open("a-0") as first, arrivals.open("a-1") as second, arrivals.open("b") as other:
        assert arrivals.abort("a") == 2
        assert arrivals.abort("a-1") == 0, "once is enough"
        assert (first.is_aborted, second.is_aborted, other.is_aborted) == (True, True, False)
        assert arrivals.abort(None) == 1
    assert arrivals.abort(None) == 0


def test_one_that_fails_on_its_way_is_gone() -> None:
    arrivals = Arrivals()
    with pytest.raises(ValueError, match="no"), arrivals.open("a"):
        raise ValueError("no")
    assert arrivals.abort("a") == 0


def test_a_caller_marks_its_own_only() -> None:
    arrivals = Arrivals()
    with arrivals.open("a", "me") as mine, arrivals.open("a", "you") as yours:
        assert arrivals.abort("a", "me") == 1
        assert (mine.is_aborted, yours.is_aborted) == (True, False)
