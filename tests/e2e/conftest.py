"""Fixtures of the end-to-end tests: one real server for all tests that do not need their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from openai import OpenAI

from support.server import KvikServer


@pytest.fixture(scope="session")
def server() -> Iterator[KvikServer]:
    """The server as `kvik serve` starts it without a model."""
    with KvikServer("--enable-prompt-tokens-details", "--enable-request-id-headers") as running:
        yield running


@pytest.fixture
def client(server: KvikServer) -> Iterator[OpenAI]:
    with server.client() as client:
        yield client
