from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvik.server.starting.head import BadHeadError, Head, parse_head


def test_a_head() -> None:
    data = b"POST /v1/a%20b?c=d HTTP/1.1\r\nHost: x\r\nAuthorization:  Bearer k \r\n\r\nbody"
    assert parse_head(data) == Head(
        "POST", "/v1/a b", ((b"host", b"x"), (b"authorization", b"Bearer k"))
    )  # fmt: skip


def test_values_of_headers() -> None:
    head = parse_head(b"GET / HTTP/1.0\r\nA: 1\r\na: 2\r\n\r\n")
    assert head is not None
    assert (head.value_of(b"a"), head.value_of(b"b")) == (b"1", b"")


@pytest.mark.parametrize(
    ("target", "path"), [(b"/", "/"), (b"http://host:1/live?x", "/live"), (b"HTTPS://host", "/"), (b"*", "*")]
)
def test_forms_of_a_target(target: bytes, path: str) -> None:
    head = parse_head(b"GET " + target + b" HTTP/1.1\r\n\r\n")
    assert head is not None
    assert head.path == path


@pytest.mark.parametrize("data", [b"", b"\r\n", b"GET", b"GET / HTTP/1.1\r\nHost: x\r\n", b"\r\n\r\nGET / HT"])
def test_what_is_not_whole_yet(data: bytes) -> None:
    assert parse_head(data) is None


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00", b"get / HTTP/1.1\r\n\r\n", b"GET / HTTP/2.0\r\n\r\n", b"GET /\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"GET / HTTP/1.1\r\n a: folded\r\n\r\n",
        b"GET / HTTP/1.1\r\n: x\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"A" * 40,
    ],
)  # fmt: skip
def test_what_is_no_head(data: bytes) -> None:
    with pytest.raises(BadHeadError):
        parse_head(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_head_or_none(data: bytes) -> None:
    for text in (
        data,
        data + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + data + b"\r\n\r\n",
        b"GET " + data + b" HTTP/1.1\r\n\r\n",
    ):
        try:
            head = parse_head(text)
        except BadHeadError:
            continue
        assert head is None or isinstance(head.path, str)
