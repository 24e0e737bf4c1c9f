"""Two servers on one port: the old one leaves, and no client is refused, reset or turned away."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

from prometheus_client import CollectorRegistry

from kvik.config.connections import ConnectionConfig
from kvik.server.app import build_app
from kvik.server.hand_over import HandOver, turn_handshakes_away
from kvik.server.lifecycle import Stop
from kvik.server.serve import serve_http
from kvik.server.sockets import bind
from support.live_server import Live, live_server
from support.server_without_engine import Script, make_server

CHAT = json.dumps({"messages": [{"role": "user", "content": "Hi"}]}).encode()
SHARED = ConnectionConfig(reuse_port=True)
CLOSE = "Connection: close\r\n"


async def ask(port: int, more: str = CLOSE) -> bytes:
    """A request on a connection of its own. Raises what a client would see."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n{more}Content-Type: application/json\r\n"
        f"Content-Length: {len(CHAT)}\r\n\r\n".encode()
        + CHAT
    )
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


@contextlib.asynccontextmanager
async def next_server(port: int, sock: socket.socket | None = None, **flags: Any) -> AsyncIterator[Live]:
    """One more server on `port`, or on a socket that exists."""
    made = make_server(host="127.0.0.1", port=port, disable_uvicorn_access_log=True, **flags)
    started, stop = asyncio.Event(), Stop(lambda count: None)
    sock = sock or bind(made.state.config)
    with contextlib.closing(sock):
        app = build_app(made.state, CollectorRegistry())
        serving = asyncio.create_task(serve_http(app, sock, made.state, stop, on_startup=started.set))
        await started.wait()
        try:
            yield Live(port, made.llm, made.state, stop, serving)
        finally:
            stop.notify(15)
            stop.notify(15)
            await serving


def test_a_port_is_taken_over_under_load() -> None:
    async def scenario() -> None:
        async with live_server(hand_over=HandOver.SHARED_PORT, connections=SHARED) as old:
            answers: list[bytes] = []
            is_over = asyncio.Event()

            async def client() -> None:
                while not is_over.is_set():
                    answers.append(await ask(old.port))

            clients = [asyncio.create_task(client()) for _ in range(16)]
            async with next_server(old.port, connections=SHARED) as new:
                while not (len(old.llm.asked) > 50 and len(new.llm.asked) > 50):
                    await asyncio.sleep(0.01)
                old.stop.notify(15)
                await old.serving
                num_until_then = len(answers)
                while len(answers) < num_until_then + 150:
                    await asyncio.sleep(0.01)
                is_over.set()
                await asyncio.gather(*clients)
            assert {answer.split(b"\r\n")[0] for answer in answers} == {b"HTTP/1.1 200 OK"}
            assert len(answers) == len(old.llm.asked) + len(new.llm.asked) > 250

    asyncio.run(asyncio.wait_for(scenario(), 25))


def test_connections_that_are_there_have_one_more_answer() -> None:
    async def scenario() -> None:
        async with live_server(hand_over=HandOver.SHARED_PORT, connections=SHARED) as old:
            old.llm.script = Script(["one", "two"], hold_after=1)
            stream, writer = await old.open("/v1/chat/completions", CHAT[:-1] + b', "stream": true}')
            await stream.readuntil(b'"content":"one"')
            silent, of_silent = await asyncio.open_connection("127.0.0.1", old.port)
            assert await old.get_status("/health") == 200
            old.stop.notify(15)
            while not await is_refused(old.port):
                await asyncio.sleep(0.01)
            assert not old.serving.done()
            of_silent.write(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = await silent.read()
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert b"connection: close" in answer
            of_silent.close()
            writer.close()
            await old.serving

    asyncio.run(asyncio.wait_for(scenario(), 20))


async def is_refused(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return True
    writer.close()
    return False


def test_a_socket_that_another_process_has_keeps_who_waits() -> None:
    """The service manager holds it: clients that come between two servers wait for the next one."""

    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=50) as theirs:
            async with live_server(hand_over=HandOver.SAME_SOCKET, sock=theirs.dup()) as old:
                assert b" 200 OK" in await ask(old.port)
                old.stop.notify(15)
                await old.serving
            waiting = [asyncio.create_task(ask(old.port)) for _ in range(5)]
            await asyncio.sleep(0)
            async with next_server(old.port, sock=theirs.dup()):
                assert all(b" 200 OK" in answer for answer in await asyncio.gather(*waiting))

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_handshakes_are_turned_away_without_a_word_and_connections_live() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client, listening.accept()[0] as server:
            assert turn_handshakes_away(listening)
            client.sendall(b"hello")
            assert server.recv(5) == b"hello"
            with socket.socket() as late:
                late.setblocking(False)
                assert late.connect_ex(("127.0.0.1", port)) != 0
                listening.setblocking(False)
                try:
                    listening.accept()
                except BlockingIOError:
                    return
                raise AssertionError("a connection has come about")
