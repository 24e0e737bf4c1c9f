"""Canonical CBOR against the examples in RFC 8949, appendix A."""

from __future__ import annotations

import pytest

from kvik.blocks.cbor import encode_canonical


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "00"),
        (23, "17"),
        (24, "1818"),
        (100, "1864"),
        (1000, "1903e8"),
        (1000000, "1a000f4240"),
        (1000000000000, "1b000000e8d4a51000"),
        (18446744073709551615, "1bffffffffffffffff"),
        (None, "f6"),
        (b"", "40"),
        (b"\x01\x02\x03\x04", "4401020304"),
        ("", "60"),
        ("IETF", "6449455446"),
        ("\u00fc", "62c3bc"),
        ([], "80"),
        ([1, [2, 3], [4, 5]], "8301820203820405"),
        (list(range(1, 26)), "98190102030405060708090a0b0c0d0e0f101112131415161718181819"),
    ],
)
def test_examples_of_the_rfc(value: object, expected: str) -> None:
    assert encode_canonical(value).hex() == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(("value", "error"), [(-1, ValueError), (2**64, ValueError), (1.5, TypeError)])
def test_what_has_no_form_here(value: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        encode_canonical(value)  # type: ignore[arg-type]
