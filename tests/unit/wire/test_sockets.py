"""Both ends of the wall, in one process: order, silence, death and clean-up."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from kvik.errors import ConfigError, EngineDeadError, WireError
from kvik.messages import Abort, Hello, Shutdown, StepOutputs
from kvik.wire.sockets import ApiSocket, EngineSocket


@pytest.fixture
def api() -> Iterator[ApiSocket]:
    api = ApiSocket()
    yield api
    api.close()


@pytest.fixture
def engine(api: ApiSocket) -> Iterator[EngineSocket]:
    engine = EngineSocket(api.address)
    yield engine
    engine.close()


def test_messages_arrive_in_order_in_both_directions(api: ApiSocket, engine: EngineSocket) -> None:
    async def talk() -> list[object]:
        engine.send(Hello(1))
        heard: list[object] = [await api.receive()]
        for index in range(5000):
            api.send(Abort([str(index)]))
            engine.send(StepOutputs([], float(index)))
        return heard + [await api.receive() for _ in range(5000)]

    heard = asyncio.run(talk())
    assert heard == [Hello(1), *(StepOutputs([], float(i)) for i in range(5000))]
    assert [engine.receive(5) for _ in range(5000)] == [Abort([str(i)]) for i in range(5000)]


def test_a_signal_ends_the_wait_even_when_it_came_before_it(api: ApiSocket) -> None:
    wakeup, writer = socket.socketpair()
    engine = EngineSocket(api.address, wakeup)
    writer.send(b"\x0f")
    assert engine.receive() is None  # no time limit: only the byte can have ended it
    assert engine.receive(0) is None
    assert select.select([wakeup], [], [], 0) == ([], [], [])
    engine.close()
    wakeup.close()
    writer.close()


def test_sending_does_not_lose_the_wake_up_of_a_waiting_receive(api: ApiSocket, engine: EngineSocket) -> None:
    async def talk() -> None:
        engine.send(Hello(1))
        await api.receive()
        for index in range(200):
            waiting = asyncio.ensure_future(api.receive())
            await asyncio.sleep(0)
            engine.send(StepOutputs([], float(index)))
            api.send(Shutdown())
            assert await asyncio.wait_for(waiting, 5) == StepOutputs([], float(index))

    asyncio.run(talk())


def test_a_cancelled_receive_loses_nothing(api: ApiSocket, engine: EngineSocket) -> None:
    async def talk() -> object:
        waiting = asyncio.ensure_future(api.receive())
        await asyncio.sleep(0)
        waiting.cancel()
        engine.send(Hello(9))
        return await asyncio.wait_for(api.receive(), 5)

    assert asyncio.run(talk()) == Hello(9)


def test_others_run_between_the_messages_of_a_backlog(api: ApiSocket, engine: EngineSocket) -> None:
    async def talk() -> list[object]:
        order: list[object] = []
        for index in range(3):
            engine.send(Hello(index))
        for _ in range(3):
            order.append(await api.receive())
            asyncio.get_running_loop().call_soon(order.append, "reader")
        await asyncio.sleep(0)
        return order

    assert asyncio.run(talk()) == [Hello(0), "reader", Hello(1), "reader", Hello(2), "reader"]


def test_after_hanging_up_what_came_before_is_still_received(api: ApiSocket, engine: EngineSocket) -> None:
    async def talk() -> list[object]:
        engine.send(Hello(1))
        engine.send(Hello(2))
        heard: list[object] = [await api.receive()]
        waiting = asyncio.ensure_future(_all(api))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.2, api.hang_up)
        return heard + await asyncio.wait_for(waiting, 5)

    assert asyncio.run(talk()) == [Hello(1), Hello(2)]


async def _all(api: ApiSocket) -> list[object]:
    heard: list[object] = []
    while (message := await api.receive()) is not None:
        heard.append(message)
    return heard


def test_drain_takes_what_is_there(api: ApiSocket, engine: EngineSocket) -> None:
    async def talk() -> None:
        engine.send(Hello(1))
        await api.receive()
        for index in range(3):
            api.send(Abort([str(index)]))

    asyncio.run(talk())
    first = engine.receive(5)
    second = engine.receive(5)
    third = engine.receive(5)
    assert [first, second, third] == [Abort([str(i)]) for i in range(3)]
    assert list(engine.drain()) == []
    assert engine.receive(0) is None


def test_sending_without_an_engine_says_so(api: ApiSocket) -> None:
    async def talk() -> None:
        with pytest.raises(EngineDeadError, match="not connected"):
            api.send(Shutdown())

    asyncio.run(talk())


def test_noise_on_the_socket_is_a_wire_error(api: ApiSocket) -> None:
    async def talk() -> None:
        with zmq.Context() as context, context.socket(zmq.DEALER) as stranger:
            stranger.connect(api.address)
            stranger.send(b"\xff\x00")
            with pytest.raises(WireError):
                await asyncio.wait_for(api.receive(), 5)

    asyncio.run(talk())


def test_the_directory_is_private_and_goes_away() -> None:
    socket = ApiSocket()
    directory = Path(socket.address.removeprefix("ipc://")).parent
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    socket.close()
    socket.close()
    assert not directory.exists()


def test_a_long_temporary_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with pytest.raises(ConfigError, match="set TMPDIR to a shorter directory"):
        ApiSocket()
    assert os.listdir(deep) == []


def test_no_room_for_temporary_files_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(ConfigError, match="No space left on device; make some, or set TMPDIR"):
        ApiSocket()
    assert os.listdir(tmp_path) == []
