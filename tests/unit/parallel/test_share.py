from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvik.parallel.group import ALONE
from kvik.parallel.share import Share, even_share, rows_of_vocabulary


@given(units=st.integers(1, 40), unit=st.sampled_from([1, 16, 64]), num_workers=st.integers(1, 16))
def test_shares_are_equal_and_leave_nothing_out(units: int, unit: int, num_workers: int) -> None:
    if max(units, num_workers) % min(units, num_workers):
        with pytest.raises(ValueError, match="cannot share"):
            even_share(units * unit, 0, num_workers, unit)
        return
    shares = [even_share(units * unit, rank, num_workers, unit) for rank in range(num_workers)]
    assert {share.size for share in shares} == {max(1, units // num_workers) * unit}
    held = [at for share in shares for at in range(share.first, share.end)]
    assert set(held) == set(range(units * unit))
    assert len(held) == max(units, num_workers) * unit, "where heads are fewer than workers, some hold the same"


@given(vocab_size=st.integers(1, 1000), num_workers=st.integers(1, 16))
def test_rows_of_the_vocabulary_follow_each_other(vocab_size: int, num_workers: int) -> None:
    shares = [rows_of_vocabulary(vocab_size, rank, num_workers) for rank in range(num_workers)]
    assert [at for share in shares for at in range(share.first, share.end)] == list(range(vocab_size))
    assert {share.size for share in shares[:-1]} <= {shares[0].size} or shares[-1].size == 0


def test_one_worker_has_all_of_it() -> None:
    assert even_share(96, 0, 1, 16) == Share(0, 96, 96)
    assert even_share(96, 0, 1).is_whole
    assert ALONE.least([3, 1]) == [3, 1]
