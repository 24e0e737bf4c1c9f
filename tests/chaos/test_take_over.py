"""A real server ends and another one goes on: by a shared port, and by a socket that a service manager keeps."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import threading
from pathlib import Path

import pytest

from support.server import MODEL, KvikServer, eventually

ASK = json.dumps({"model": MODEL, "prompt": "I", "max_tokens": 1}).encode()


class Clients:
    """Threads that ask over and over, each time on a new connection; whatever is no answer is written down."""

    def __init__(self, port: int, num_threads: int) -> None:
        self._port = port
        self._is_over = threading.Event()
        self.statuses: list[int | str] = []
        self._threads = [threading.Thread(target=self._ask_on, args=(i,)) for i in range(num_threads)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _ask_on(self, index: int) -> None:
        while not self._is_over.is_set():
            try:
                self.statuses.append(self._ask(generates=index == 0))
            except (OSError, http.client.HTTPException) as error:
                self.statuses.append(repr(error))

    def _ask(self, generates: bool) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            if generates:
                connection.request("POST", "/v1/completions", ASK, {"Content-Type": "application/json"})
            else:
                connection.request("GET", "/v1/models")
            answer = connection.getresponse()
            answer.read()
            return answer.status
        finally:
            connection.close()


@pytest.mark.timeout(120)
def test_a_new_server_takes_over_the_port_of_a_busy_one() -> None:
    with (
        KvikServer("--reuse-port") as old,
        KvikServer("--reuse-port", port=old.port),
        Clients(old.port, 6) as clients,
    ):
        assert eventually(lambda: len(clients.statuses) > 200)
        old.process.send_signal(signal.SIGTERM)
        assert old.process.wait(30) == 0
        num_until_then = len(clients.statuses)
        assert eventually(lambda: len(clients.statuses) > num_until_then + 200)
    assert set(clients.statuses) == {200}
    assert len(clients.statuses) > 400


def stream(port: int, max_tokens: int) -> http.client.HTTPResponse:
    """One that runs; its first event has been read."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body = dict(model=MODEL, prompt="Count:", max_tokens=max_tokens, stream=True, ignore_eos=True, temperature=0)
    connection.request(
        "POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json", "Connection": "close"}
    )
    answer = connection.getresponse()
    assert answer.status == 200
    assert answer.readline().startswith(b"data: ")
    return answer


@pytest.mark.timeout(120)
def test_a_service_ends_while_its_engine_is_being_replaced(tmp_path: Path) -> None:
    """Socket and notes as of a service manager. One stream can end in time, one cannot, and says why."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as notified,
    ):
        notified.bind(str(tmp_path / "notify"))
        server = KvikServer("--shutdown-timeout", "10")
        server.activate(listening, notified)
        with server:
            short, long = stream(server.port, 40), stream(server.port, 7000)
            os.kill(server.engine_pid(), signal.SIGKILL)
            assert eventually(lambda: any("restarting the engine" in line for line in server.lines))
            server.process.send_signal(signal.SIGTERM)
            with short, long:
                rest = short.read().decode()
                assert '"finish_reason":"length"' in rest
                assert "error" not in rest
                events = [json.loads(e[6:]) for e in long.read().decode().split("\n\n") if e.startswith("data: {")]
            assert events[-1]["error"]["message"] == "the server is shutting down; try another one"
            assert server.process.wait(20) == 0
        told = b" ".join(iter(lambda: received(notified), b"")).decode()
        assert told.startswith("STATUS=starting (")
        assert " READY=1" in told
        assert "WATCHDOG=1" in told
        assert "STOPPING=1" in told
        socket.create_connection(listening.getsockname()).close()  # it waits for the next server


def received(notified: socket.socket) -> bytes:
    try:
        return notified.recv(1000)
    except BlockingIOError:
        return b""
