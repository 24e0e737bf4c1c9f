"""Nothing listens but what was asked for: every listening socket of both processes, as the kernel tells of them."""

from __future__ import annotations

import http.client
import os
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.server import KvikServer

_LISTEN = "0A"
"""The state of a listening TCP socket in /proc/net/tcp."""
_ACCEPTS = 0x10000
"""The flag of a listening Unix socket in /proc/net/unix (__SO_ACCEPTCON)."""


@dataclass(frozen=True)
class Listener:
    kind: str
    address: str


@dataclass(frozen=True)
class Scanned:
    server: KvikServer
    admin: Path
    folder: Path


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("admin", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(60)
        self.sock.connect(str(self._path))


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scanned]:
    folder = tmp_path_factory.mktemp("sockets")
    admin = folder / "admin.sock"
    env = {"KVIK_SERVER_DEV_MODE": "1", "TMPDIR": str(folder)}
    with KvikServer("--admin-uds", str(admin), "--api-key", "sesame", env=env) as server:
        yield Scanned(server, admin, folder)
    assert not admin.exists()
    assert list(folder.glob("kvik-*")) == []


def inodes_of(pid: int) -> set[int]:
    """Of all sockets that a process has open."""
    links = [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
    return {int(link[8:-1]) for link in links if link.startswith("socket:[")}


def listeners_of(pid: int) -> set[Listener]:
    inodes = inodes_of(pid)
    found: set[Listener] = set()
    for kind in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6"):
        for line in Path(f"/proc/{pid}/net/{kind}").read_text().splitlines()[1:]:
            fields = line.split()
            if int(fields[9]) in inodes and (not kind.startswith("tcp") or fields[3] == _LISTEN):
                found.add(Listener(kind, address_of(fields[1])))
    for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[6]) in inodes and int(fields[3], 16) & _ACCEPTS:
            found.add(Listener("unix", fields[7] if len(fields) > 7 else ""))
    return found


def address_of(text: str) -> str:
    host, _, port = text.partition(":")
    if len(host) == 8:
        return f"{socket.inet_ntoa(bytes.fromhex(host)[::-1])}:{int(port, 16)}"
    return f"[{host}]:{int(port, 16)}"


def test_only_what_was_asked_for_listens(scanned: Scanned) -> None:
    api = listeners_of(scanned.server.process.pid)
    wall = {one for one in api if one.kind == "unix" and one.address.startswith(f"{scanned.folder}/kvik-")}
    assert len(wall) == 1
    assert api - wall == {
        Listener("tcp", f"127.0.0.1:{scanned.server.port}"), Listener("unix", str(scanned.admin))
    }  # fmt: skip
    assert listeners_of(scanned.server.engine_pid()) == set()


def test_other_users_reach_no_socket_file(scanned: Scanned) -> None:
    (folder,) = scanned.folder.glob("kvik-*")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert folder.stat().st_uid == os.getuid()
    assert stat.S_IMODE(scanned.admin.stat().st_mode) == 0o600


def test_admin_routes_answer_on_their_socket_only(scanned: Scanned) -> None:
    key = {"Authorization": "Bearer sesame"}
    assert scanned.server.request("GET", "/is_paused")[0] == 401
    assert scanned.server.request("GET", "/is_paused", **key)[0] == 404
    assert scanned.server.request("GET", "/v1/models", **key)[0] == 200
    assert ask(scanned.admin, "GET", "/is_paused") == (200, b'{"is_paused":false}')
    assert ask(scanned.admin, "GET", "/health")[0] == 200
    assert ask(scanned.admin, "GET", "/v1/models")[0] == 404


def ask(path: Path, method: str, route: str) -> tuple[int, bytes]:
    connection = UnixConnection(path)
    try:
        connection.request(method, route)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
