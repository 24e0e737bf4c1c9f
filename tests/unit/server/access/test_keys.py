from __future__ import annotations

import secrets

import pytest

from kvik.server.access.keys import hash_key, identify, plain_keys


def test_a_key_is_found_by_its_text() -> None:
    keys = plain_keys(("one", "two", "drei-ß"))
    assert [key.name for key in keys] == ["api-key-1", "api-key-2", "api-key-3"]
    found = identify([b"nothing", b"two"], keys)
    assert found is not None
    assert found.name == "api-key-2"
    assert identify(["drei-ß".encode()], keys) == keys[2]
    assert identify([b"One"], keys) is None
    assert identify([b""], keys) is None
    assert identify([], keys) is None


def test_keys_are_not_kept() -> None:
    assert "very-secret" not in repr(plain_keys(("very-secret",)))


def test_all_hashes_are_compared_whatever_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []

    compare = secrets.compare_digest

    def counting(a: bytes, b: bytes) -> bool:
        compared.append(b)
        return compare(a, b)

    monkeypatch.setattr(secrets, "compare_digest", counting)
    keys = plain_keys(tuple(f"key-{i}" for i in range(5)))
    for token in (b"key-0", b"key-4", b"wrong"):
        compared.clear()
        identify([token], keys)
        assert compared == [hash_key(f"key-{i}".encode()) for i in range(5)]
