"""What the tests of real clients share. Each client is imported by its own module's fixtures: imports take seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.capabilities import skip_without_flag, skip_without_response_format
from support.server import KvikServer


@pytest.fixture
def structured(server: KvikServer) -> KvikServer:
    """The session's server, if it follows schemas."""
    skip_without_response_format(server)
    return server


@pytest.fixture(scope="session")
def tool_server() -> Iterator[KvikServer]:
    """A server that parses calls of tools. The model is too small to call one by itself: tests force it."""
    skip_without_flag("tool-call-parser")
    with KvikServer("--enable-auto-tool-choice", "--tool-call-parser", "hermes") as running:
        skip_without_response_format(running)  # calls are forced by the same grammars
        yield running


@pytest.fixture
def base_url(server: KvikServer) -> str:
    return f"http://127.0.0.1:{server.port}"
