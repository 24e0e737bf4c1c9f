"""Servers for the tests of this room."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.server_without_engine import Server, make_server


@pytest.fixture
def server() -> Server:
    return make_server()


@pytest.fixture
def serve() -> Callable[..., Server]:
    """Makes a server with flags."""
    return make_server
