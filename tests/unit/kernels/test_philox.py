"""Philox4x32-10 against the known answers of the authors' library (Random123, kat_vectors)."""

from __future__ import annotations

import pytest

from kvik.kernels.sample.philox import philox4x32, random_word64

ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ONES, ONES, ONES, ONES), (ONES, ONES), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_known_answers(counter, key, words):
    assert philox4x32(counter, key) == words


def test_the_word_of_a_token():
    assert random_word64(0, 0) == 0xE169C58D6627E8D5
    assert random_word64(-1, 5) == random_word64(2**64 - 1, 5)
    assert len({random_word64(s, p) for s in range(-20, 20) for p in range(40)}) == 1600
