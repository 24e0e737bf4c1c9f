"""What a service manager hands over and hears: file descriptors, and datagrams on a socket of the test's own."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvik.errors import ConfigError
from kvik.messages import Phase
from kvik.server import systemd
from kvik.server.starting.progress import tell_manager
from kvik.server.systemd import ServiceManager, inherited_socket, socket_of
from kvik.telemetry.start_estimate import Expectation
from kvik.telemetry.timeline import Timeline


@pytest.fixture
def heard(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.bind(str(tmp_path / "notify"))
        yield sock


def messages(heard: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found.append(heard.recv(4096).decode())
        except BlockingIOError:
            return found


def test_it_hears_the_start_the_end_and_signs_of_life_between(heard: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": heard.getsockname(), "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "7"}
    manager = ServiceManager.of(environ, 7)
    manager.alive(0.0)
    assert messages(heard) == [], "a start may last as long as it wants"
    manager.ready()
    for tenth in range(30):
        manager.alive(tenth / 10)
    manager.stopping()
    first, *signs, last = messages(heard)
    assert first.startswith("READY=1")
    assert signs == ["WATCHDOG=1"] * 3
    assert last.startswith("STOPPING=1")


@pytest.mark.parametrize("more", [{}, {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "8"}])
def test_no_signs_of_life_where_nobody_waits_for_them(heard: socket.socket, more: dict[str, str]) -> None:
    manager = ServiceManager.of({"NOTIFY_SOCKET": heard.getsockname()} | more, 7)
    manager.ready()
    manager.alive(1e9)
    assert len(messages(heard)) == 1


def test_an_abstract_address() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        name = f"kvik-test-{os.getpid()}"
        heard.bind("\0" + name)
        ServiceManager(f"@{name}").ready()
        assert heard.recv(100).startswith(b"READY=1")


def test_nobody_to_tell_and_nobody_there(tmp_path: Path) -> None:
    ServiceManager.of({}, 7).ready()
    ServiceManager(str(tmp_path / "nobody")).stopping()
    with pytest.raises(ConfigError, match="WATCHDOG_USEC"):
        ServiceManager.of({"WATCHDOG_USEC": "soon"}, 7)


@pytest.mark.parametrize("environ", [{}, {"LISTEN_FDS": "1"}, {"LISTEN_FDS": "1", "LISTEN_PID": "8"}])
def test_no_socket_for_this_process(environ: dict[str, str]) -> None:
    assert inherited_socket(environ, 7) is None


@pytest.mark.parametrize("number", ["0", "2", "many"])
def test_one_socket_or_none(number: str) -> None:
    with pytest.raises(ConfigError, match="LISTEN_FDS must be 1"):
        inherited_socket({"LISTEN_FDS": number, "LISTEN_PID": "7"}, 7)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX])
def test_a_socket_for_this_process(family: socket.AddressFamily, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(family) as theirs:
        monkeypatch.setattr(systemd, "FIRST_FD", os.dup(theirs.fileno()))
        sock = inherited_socket({"LISTEN_FDS": "1", "LISTEN_PID": "7"}, 7)
        assert sock is not None
        with sock:
            assert (sock.family, sock.fileno()) == (family, systemd.FIRST_FD)
            assert not sock.get_inheritable()


def test_what_nobody_could_listen_on_stays_open_and_is_named(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file, pytest.raises(ConfigError, match="is no socket"):
        socket_of(file.fileno())
    with pytest.raises(ConfigError, match="is not open"):
        socket_of(1_000_000)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
        with pytest.raises(ConfigError, match="ListenStream="):
            socket_of(datagrams.fileno())
        assert datagrams.fileno() >= 0
    one, other = socket.socketpair()
    with one, other, pytest.raises(ConfigError, match="Accept=no"):
        socket_of(one.fileno())


def test_it_hears_how_far_a_start_is_until_it_is_over(heard: socket.socket) -> None:
    timeline = Timeline(0.0, Expectation.measured({"imports": 12.0}), lambda: 5.0)
    timeline.observe(Phase("imports", "EngineCore_DP0", 4.0, None))
    manager = ServiceManager.of({"NOTIFY_SOCKET": heard.getsockname()}, 7)

    async def until_told() -> None:
        telling = asyncio.create_task(tell_manager(manager, timeline))
        await asyncio.sleep(0)
        timeline.ready()
        telling.cancel()

    asyncio.run(until_told())
    assert heard.recv(1000) == b"STATUS=starting (imports); it should be ready in about 11 s"
    asyncio.run(tell_manager(manager, timeline))
    asyncio.run(tell_manager(ServiceManager(), Timeline(0.0, Expectation())))
    with pytest.raises(BlockingIOError):
        heard.recv(1000)
