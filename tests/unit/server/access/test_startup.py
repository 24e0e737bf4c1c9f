from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import pytest

from kvik.config.access import AccessConfig
from kvik.config.frontend import ServerConfig
from kvik.errors import ConfigError
from kvik.server.access.startup import check_access, warn_if_open
from kvik.server.sockets import bind


@pytest.mark.parametrize("host", [None, "0.0.0.0", "::"])
def test_an_open_door_is_told_loudly(host: str | None, caplog: pytest.LogCaptureFixture) -> None:
    config = ServerConfig(host=host, port=0)
    with contextlib.closing(bind(config)) as sock:
        warn_if_open(config, sock)
        assert f"ANYBODY who reaches port {sock.getsockname()[1]} on any address of this machine" in caplog.text
    assert len(caplog.records) > 5
    assert "--api-key KEY" in caplog.text
    assert "--host 127.0.0.1" in caplog.text


@pytest.mark.parametrize(
    "config",
    [
        ServerConfig(host="127.0.0.1", port=0),
        ServerConfig(host="localhost", port=0),
        ServerConfig(port=0, api_key=("k",)),
        ServerConfig(port=0, access=AccessConfig(api_key_file="keys.json")),
        ServerConfig(port=0, ssl_cert_reqs=2),
    ],
)
def test_a_door_with_a_lock_is_not(config: ServerConfig, caplog: pytest.LogCaptureFixture) -> None:
    with contextlib.closing(bind(config)) as sock:
        warn_if_open(config, sock)
    assert not caplog.records


def test_unix_sockets_are_local(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "s"))
        warn_if_open(ServerConfig(uds=str(tmp_path / "s")), sock)
    assert not caplog.records


def test_a_wrong_key_file_ends_the_start(tmp_path: Path) -> None:
    check_access(ServerConfig())
    with pytest.raises(ConfigError, match="--api-key-file"):
        check_access(ServerConfig(access=AccessConfig(api_key_file=str(tmp_path / "none"))))
