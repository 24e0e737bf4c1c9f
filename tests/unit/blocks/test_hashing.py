"""Digests: what they cover, and that they are the same in every process."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvik.blocks.hashing import ROOT_DIGEST, make_block_hasher, root_digest

ALGORITHMS = ["sha256", "sha256_cbor"]
blocks_of_3 = st.lists(st.integers(0, 2**32 - 1), min_size=3, max_size=3)
keys = st.tuples(st.binary(min_size=32, max_size=32), blocks_of_3, st.none() | st.text(max_size=4))


def test_sha256_covers_packed_integers() -> None:
    packed = b"\x01\0\0\0\x02\0\0\0\xff\xff\0\0"
    assert (
        make_block_hasher("sha256", 3)(ROOT_DIGEST, [1, 2, 65535], None)
        == hashlib.sha256(ROOT_DIGEST + packed).digest()
    )


def test_sha256_cbor_covers_the_list_of_parent_tokens_and_keys() -> None:
    encoded = bytes.fromhex("83 5820") + ROOT_DIGEST + bytes.fromhex("83 01 02 19ffff f6")
    assert make_block_hasher("sha256_cbor", 3)(ROOT_DIGEST, [1, 2, 65535], None) == hashlib.sha256(encoded).digest()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(one=keys, other=keys)
def test_different_keys_have_different_digests(
    algorithm: str, one: tuple[bytes, list[int], str | None], other: tuple[bytes, list[int], str | None]
) -> None:
    hash_block = make_block_hasher(algorithm, 3)
    assert (hash_block(*one) == hash_block(*other)) == (one == other)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_empty_salt_is_not_no_salt(algorithm: str) -> None:
    hash_block = make_block_hasher(algorithm, 1)
    assert hash_block(ROOT_DIGEST, [1], "") != hash_block(ROOT_DIGEST, [1], None)


@given(one=st.lists(st.text(max_size=3), max_size=3), other=st.lists(st.text(max_size=3), max_size=3))
def test_different_keys_have_different_roots(one: list[str], other: list[str]) -> None:
    assert (root_digest(one) == root_digest(other)) == (one == other)


def test_without_keys_the_root_is_that_of_all() -> None:
    assert root_digest([]) == ROOT_DIGEST
