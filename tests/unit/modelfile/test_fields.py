from __future__ import annotations

from typing import Any

import pytest

from kvik.errors import ModelFileError
from kvik.modelfile.fields import Fields


def fields(**values: Any) -> Fields:
    return Fields(values, "config.json")


def test_reads_what_is_there() -> None:
    read = fields(i=3, f=1.5, b=True, s="x", items=[1], nested={"k": 1})
    assert read.read(int, "i") == 3
    assert read.read(float, "f") == 1.5
    assert read.read(bool, "b") is True
    assert read.read(str, "s") == "x"
    assert read.nested("nested").size("k") == 1


def test_an_integer_is_a_number_but_no_boolean_is_an_integer() -> None:
    assert isinstance(fields(theta=10000).read(float, "theta"), float)
    with pytest.raises(ModelFileError, match=r"config\.json: field 'n' is True; it must be an integer"):
        fields(n=True).read(int, "n")


def test_missing_and_null() -> None:
    assert fields().read(int, "n", 7) == 7
    assert fields(n=None).read(int, "n", 7) == 7
    assert fields().read_nullable(int, "n", 7) == 7
    assert fields(n=None).read_nullable(int, "n", 7) is None
    with pytest.raises(ModelFileError, match="'n' is missing; it must be an integer"):
        fields().read(int, "n")
    with pytest.raises(ModelFileError, match="'n' is null"):
        fields(n=None).read(int, "n")


@pytest.mark.parametrize("value", [0, -1, 2**31, 10**5000], ids=["0", "-1", "2^31", "huge"])
def test_sizes_are_bounded(value: int) -> None:
    with pytest.raises(ModelFileError, match="it must be 1 to"):
        fields(n=value).size("n")


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_positive_numbers_are_finite_and_above_zero(value: float) -> None:
    with pytest.raises(ModelFileError, match="finite number above 0"):
        fields(x=value).positive("x")


def test_token_ids() -> None:
    assert fields(e=3).token_ids("e") == (3,)
    assert fields(e=[3, 4]).token_ids("e") == (3, 4)
    assert fields(e=None).token_ids("e", (9,)) == ()
    assert fields().token_ids("e", (9,)) == (9,)
    for bad in (-1, [1, "2"], 1.5, [True]):
        with pytest.raises(ModelFileError, match="'e'"):
            fields(e=bad).token_ids("e")
