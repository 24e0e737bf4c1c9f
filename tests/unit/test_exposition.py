"""The lint of expositions finds what `promtool check metrics` finds."""

from __future__ import annotations

import pytest

from support.exposition import problems_of

GOOD = """\
# HELP kvik:tokens_total Tokens.
# TYPE kvik:tokens_total counter
kvik:tokens_total{model_name="a\\"b"} 1.0
# HELP kvik:wait_seconds Wait.
# TYPE kvik:wait_seconds histogram
kvik:wait_seconds_bucket{le="1.0"} 1.0
kvik:wait_seconds_bucket{le="+Inf"} 2.0
kvik:wait_seconds_count 2.0
kvik:wait_seconds_sum 3.5
"""


def test_nothing_is_wrong() -> None:
    assert problems_of(GOOD) == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("# HELP kvik:tokens_total Tokens.\n", "", "0 HELP lines"),
        ("Tokens.", " ", "HELP says nothing"),
        ("# TYPE kvik:tokens_total counter\n", "", "outside of its family"),
        ("kvik:tokens_total", "kvik:tokens", "counters end in _total"),
        ("kvik:tokens_total counter", "kvik:tokens_total gauge", "counters end in _total"),
        ("kvik:wait_seconds", "kvik:wait_ms", "not in a base unit"),
        ("kvik:tokens_total", "kvik:counter_total", "tells its type"),
        ("model_name=", "1st=", "labels cannot be read"),
        ("model_name=", "__a=", "labels that are not free"),
        ('b"} 1.0', 'b"} -1.0', "a counter of -1"),
        ('{model_name="a\\"b"} 1.0', '{x="1"} 1.0\nkvik:tokens_total{x="1"} 1.0', "a series twice"),
        ('{model_name="a\\"b"}', '{x="1",x="2"}', "a label twice"),
        ('le="+Inf"', 'le="2.0"', "bounds do not rise to +Inf"),
        ('le="1.0"} 1.0', 'le="1.0"} 3.0', "buckets do not add up"),
        ("_count 2.0", "_count 3.0", "_count is not that of the last bucket"),
        ("kvik:wait_seconds_sum 3.5\n", "", "no _sum"),
        ("_count 2.0", "_count  2.0", "cannot be read"),
    ],
)
def test_what_is_wrong_is_found(old: str, new: str, problem: str) -> None:
    assert old in GOOD
    assert problem in "\n".join(problems_of(GOOD.replace(old, new)))
