from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvik.errors import ModelFileError
from kvik.modelfile.json_file import parse_json_object, read_json_object


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "not usable JSON"),
        (b"{", "not usable JSON"),
        (b"[1]", "must hold a JSON object, not list"),
        (b'{"a": 1, "a": 2}', "'a' occurs twice"),
        (b'{"a": "\xff"}', "not usable JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not usable JSON"),
    ],
)
def test_what_is_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(ModelFileError, match=complaint):
        parse_json_object(data, "config.json")


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with suppress(ModelFileError):
        assert isinstance(parse_json_object(data, "x"), dict)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"cannot read .*gone\.json: No such file"):
        read_json_object(tmp_path / "gone.json")
