"""The desk on real sockets, with asyncio's loop and with uvloop's."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
import uvloop

from kvik.config.connections import ConnectionConfig
from kvik.config.frontend import ServerConfig
from kvik.server.sockets import bind
from kvik.server.starting.front_desk import FrontDesk
from kvik.server.starting.head import Head

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]
REQUEST = b"GET /x HTTP/1.1\r\nHost: y\r\n\r\n"


class Heir(asyncio.Protocol):
    """Stands for the application: echoes, and remembers."""

    def __init__(self, made: list[Heir]) -> None:
        made.append(self)
        self.received = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.transport.write(b"heir:" + data)


@dataclass
class Desk:
    desk: FrontDesk
    sock: socket.socket
    heirs: list[Heir]

    async def connect(self, data: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*self.sock.getsockname())
        writer.write(data)
        return reader, writer

    async def ask(self, data: bytes = REQUEST) -> bytes:
        reader, writer = await self.connect(data)
        with contextlib.closing(writer):
            return await reader.read()

    def hand_over(self) -> None:
        self.desk.hand_over(lambda: Heir(self.heirs))


def answer(head: Head) -> bytes:
    return f"desk:{head.method} {head.path}".encode()


@contextlib.asynccontextmanager
async def opened(header_timeout: float = 30.0, **options: Any) -> AsyncIterator[Desk]:
    connections = ConnectionConfig(header_timeout=header_timeout)
    config = ServerConfig(host="127.0.0.1", port=0, connections=connections)
    with contextlib.closing(bind(config)) as sock:
        desk = FrontDesk(sock, config, answer, **options)
        desk.open()
        try:
            yield Desk(desk, sock, [])
        finally:
            desk.close()


@pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Awaitable[None]], None]:
    def run_in_loop(coroutine: Any) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(asyncio.wait_for(coroutine, 20))

    return run_in_loop


Run = Callable[[Awaitable[None]], None]


def test_it_answers_and_closes(run: Run) -> None:
    async def main() -> None:
        async with opened() as desk:
            assert await desk.ask() == b"desk:GET /x"
            assert await desk.ask(REQUEST * 3) == b"desk:GET /x", "one answer per connection"

    run(main())


def test_a_head_may_come_in_pieces(run: Run) -> None:
    async def main() -> None:
        async with opened() as desk:
            reader, writer = await desk.connect()
            for byte in REQUEST:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0)
            assert await reader.read() == b"desk:GET /x"
            writer.close()

    run(main())


def test_a_body_does_not_reset_the_answer(run: Run) -> None:
    async def main() -> None:
        async with opened() as desk:
            reader, writer = await desk.connect(b"POST /x HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n" + b"b" * 500_000)
            assert await reader.read() == b"desk:POST /x"
            writer.write(b"b" * 500_000)
            await writer.drain()
            writer.close()

    run(main())


@pytest.mark.parametrize(
    ("data", "status"),
    [(b"\x16\x03\x01\x00", b"400"), (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 20_000, b"431"), (b"GET /\r\n\r\n", b"400")],
)
def test_what_is_no_head_is_refused(run: Run, data: bytes, status: bytes) -> None:
    async def main() -> None:
        async with opened() as desk:
            assert (await desk.ask(data)).startswith(b"HTTP/1.1 " + status)

    run(main())


def test_slow_clients_do_not_stay(run: Run) -> None:
    async def main() -> None:
        async with opened(header_timeout=0.05) as desk:
            assert (await desk.ask(b"GET /x HT")).startswith(b"HTTP/1.1 408")
            assert await desk.ask(b"") == b"", "who has said nothing is told nothing"

    run(main())


def test_the_oldest_silent_connection_makes_room(run: Run) -> None:
    async def main() -> None:
        async with opened(max_connections=3) as desk:
            silent = [await desk.connect() for _ in range(3)]
            for _ in range(5):
                assert await desk.ask() == b"desk:GET /x"
            with contextlib.suppress(ConnectionResetError):
                assert await silent[0][0].read() == b""
            for _, writer in silent:
                writer.close()

    run(main())


def test_open_connections_go_to_the_application_with_what_they_have_sent(run: Run) -> None:
    async def main() -> None:
        async with opened() as desk:
            silent, halfway = await desk.connect(), await desk.connect(b"GET /x HT")
            assert await desk.ask() == b"desk:GET /x"  # whatever came before has been seen by now
            desk.hand_over()
            for (reader, writer), sent, rest in ((silent, b"", REQUEST), (halfway, b"GET /x HT", b"TP/1.1\r\n\r\n")):
                assert not sent or await reader.readexactly(len(b"heir:" + sent)) == b"heir:" + sent
                writer.write(rest)
                assert await reader.readexactly(len(b"heir:" + rest)) == b"heir:" + rest
                writer.close()
            assert sorted(heir.received for heir in desk.heirs) == sorted([REQUEST, b"GET /x HTTP/1.1\r\n\r\n"])

    run(main())


def test_who_comes_between_desk_and_application_waits(run: Run) -> None:
    """Nobody is refused: the socket listens all the time, also while nobody accepts."""

    async def main() -> None:
        async with opened() as desk:
            desk.desk.stop_accepting()
            waiting = [await desk.connect(REQUEST) for _ in range(20)]
            desk.hand_over()
            loop = asyncio.get_running_loop()
            server = await loop.create_server(lambda: Heir(desk.heirs), sock=desk.sock.dup())
            for reader, writer in waiting:
                assert await reader.readexactly(len(REQUEST) + 5) == b"heir:" + REQUEST
                writer.close()
            server.close()

    run(main())


def test_requests_during_the_change_are_all_answered(run: Run) -> None:
    """Connections come without pause while the desk hands over to a server on the same socket."""

    async def main() -> None:
        async with opened() as desk:
            answers: list[bytes] = []

            async def client() -> None:
                while not any(a.startswith(b"heir") for a in answers[-3:]):
                    reader, writer = await desk.connect(REQUEST)
                    answers.append(await reader.readexactly(len(b"desk:GET /x")))
                    writer.close()

            clients = [asyncio.create_task(client()) for _ in range(8)]
            while len(answers) < 50:
                await asyncio.sleep(0)
            desk.desk.stop_accepting()
            loop = asyncio.get_running_loop()
            server = await loop.create_server(lambda: Heir(desk.heirs), sock=desk.sock.dup())
            desk.hand_over()
            await asyncio.gather(*clients)
            server.close()
            assert {a[:5] for a in answers} == {b"desk:", b"heir:"}

    run(main())


def test_closing_ends_what_is_open(run: Run) -> None:
    async def main() -> None:
        async with opened() as desk:
            reader, writer = await desk.connect(b"GET /x")
            assert await desk.ask() == b"desk:GET /x"
            desk.desk.close()
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()

    run(main())
