"""Binding: a taken port, a wrong host, sockets in the file system."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path

import pytest

from kvik.config.access import AccessConfig
from kvik.config.frontend import ServerConfig
from kvik.errors import ConfigError
from kvik.server.launcher import setup_server
from kvik.server.sockets import AddressTakenError, bind, bind_admin, closing, url_of


def test_a_taken_port_is_named() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(AddressTakenError, match=f"--port {port}"):
            bind(ServerConfig(host="127.0.0.1", port=port))


@pytest.mark.parametrize(("host", "port", "words"), [("203.0.113.9", 0, "--host"), ("127.0.0.1", 70000, "--port")])
def test_what_cannot_be_bound_names_its_flag(host: str, port: int, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        bind(ServerConfig(host=host, port=port))


@pytest.mark.parametrize(("host", "shown"), [(None, "http://0.0.0.0:"), ("::1", "http://[::1]:")])
def test_the_address_is_shown_as_a_url(host: str | None, shown: str) -> None:
    config = ServerConfig(host=host, port=0)
    with contextlib.closing(bind(config)) as sock:
        assert url_of(config, sock) == f"{shown}{sock.getsockname()[1]}"


def test_a_stale_unix_socket_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    config = ServerConfig(uds=str(tmp_path / "kvik.sock"))
    bind(config).close()
    with contextlib.closing(bind(config)) as sock:
        assert url_of(config, sock) == f"unix:{config.uds}"
        sock.listen()
        with pytest.raises(AddressTakenError, match="--uds"):
            bind(config)
    with closing(bind(config)):
        assert (tmp_path / "kvik.sock").exists()
    assert not (tmp_path / "kvik.sock").exists()


def test_a_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(ConfigError, match="no socket"):
        bind(ServerConfig(uds=str(path)))
    assert path.read_text() == "data"


def test_tls_files_are_read_before_anything_slow(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--ssl-keyfile needs --ssl-certfile"):
        setup_server(ServerConfig(port=0, ssl_keyfile="key.pem"))
    with pytest.raises(ConfigError, match="ssl-certfile"):
        setup_server(ServerConfig(port=0, ssl_certfile=str(tmp_path / "missing.pem")))


def test_the_admin_socket_is_for_its_owner_only(tmp_path: Path) -> None:
    config = ServerConfig(access=AccessConfig(admin_uds=str(tmp_path / "admin")))
    mask = os.umask(0)
    try:
        with closing(bind_admin(config)) as sock:
            assert sock is not None
            assert stat.S_IMODE((tmp_path / "admin").stat().st_mode) == 0o600
            sock.listen()
            with pytest.raises(AddressTakenError, match="--admin-uds"):
                bind_admin(config)
            assert os.umask(0) == 0, "the mask of all other files is as it was"
    finally:
        os.umask(mask)
    assert not (tmp_path / "admin").exists()


def test_no_admin_socket_unless_asked_for() -> None:
    assert bind_admin(ServerConfig()) is None
    with closing(None) as sock:
        assert sock is None


def test_an_open_door_is_told_when_the_server_starts(caplog: pytest.LogCaptureFixture) -> None:
    sock, _ = setup_server(ServerConfig(host="0.0.0.0", port=0))
    sock.close()
    assert "ANYBODY who reaches" in caplog.text


def test_a_wrong_key_file_ends_the_start_before_anything_slow(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("[{}]")
    with pytest.raises(ConfigError, match="key 1: name takes"):
        setup_server(ServerConfig(port=0, access=AccessConfig(api_key_file=str(tmp_path / "keys"))))
