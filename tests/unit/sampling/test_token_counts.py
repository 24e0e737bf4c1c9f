"""TokenCounts against collections.Counter."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from kvik.sampling.token_counts import TokenCounts

TOKENS = st.lists(st.integers(0, 700), max_size=700)


@given(prompt=TOKENS, first=TOKENS, later=TOKENS)
def test_counts(prompt, first, later):
    counts = TokenCounts(prompt, first)
    for token_id in later:
        counts.add_output(token_id)
    expected = Counter(first + later)
    ids, found = counts.token_ids.tolist(), counts.output_counts.tolist()
    assert len(ids) == len(set(ids))
    assert set(ids) == {*prompt, *first, *later}
    assert found == [expected[i] for i in ids]
