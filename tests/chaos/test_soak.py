"""Thousands of requests of all sizes, with leaving, silent and mistaken clients among them: nothing of them stays.

`KVIK_SOAK_REQUESTS` sets how many the long test sends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.bad_requests import bad_requests
from support.server import MODEL, KvikServer, eventually

NUM_CLIENTS = 24
WARM_UP = 2_000
LONG = int(os.environ.get("KVIK_SOAK_REQUESTS", "20000"))
SAMPLE_EVERY = 250
MAX_SLOPE_BYTES = 1e6
"""Of resident memory, per 1,000 requests."""
BAD = [(path, body) for path, body in bad_requests() if len(json.dumps(str(body))) < 20_000]


@dataclass
class Held:
    """What the two processes hold."""

    num_api_fds: int
    num_engine_fds: int
    tasks: Counter[str]
    num_shared: int
    """Mappings of shared memory."""


class Soak:
    def __init__(self, server: KvikServer, tasks_file: Path) -> None:
        self.server = server
        self.engine = server.engine_pid()
        self.statuses: Counter[str] = Counter()
        self.samples: list[tuple[int, int, int]] = []
        """After how many requests, resident bytes of the API and of the engine process."""
        self._tasks_file = tasks_file
        self._num_done = 0
        self._rng = random.Random(11)

    async def send(self, num_requests: int) -> None:
        """By some clients at once, one after the other each."""
        numbers = iter(range(num_requests))

        async def client() -> None:
            for number in numbers:
                kind = await asyncio.wait_for(self._one(number), 120)
                self.statuses[kind] += 1
                self._num_done += 1
                if self._num_done % SAMPLE_EVERY == 0:
                    self.samples.append((self._num_done, resident(self.server.process.pid), resident(self.engine)))

        await asyncio.gather(*(client() for _ in range(NUM_CLIENTS)))

    async def _one(self, number: int) -> str:
        """What the client did, and the status that it was given."""
        draw = self._rng.random()
        if draw < 0.1:
            path, body = self._rng.choice(BAD)
            return "bad " + await self._ask(path, body)
        path, body = self._good(number)
        if draw < 0.3:
            return await self._leave(path, body)
        if draw < 0.32:
            return await self._read_slowly(path, body)
        return "good " + await self._ask(path, body)

    def _good(self, number: int) -> tuple[str, dict[str, Any]]:
        rng = self._rng
        words = "word " * rng.choice((1, 1, 3, 3, 10, 10, 30, 30, 100, 400 if rng.random() < 0.2 else 10))
        body: dict[str, Any] = dict(model=MODEL, max_tokens=rng.randint(1, 20), stream=rng.random() < 0.5, seed=number)
        body |= rng.choice(
            ({}, {}, {}, {"n": 2}, {"logprobs": 2}, {"stop": ["e"]}, {"temperature": 0}, {"cache_salt": f"s{number}"},
             {"structured_outputs": {"regex": f"[a-z]{{{rng.randint(1, 40)}}}"}}, {"repetition_penalty": 1.2})
        )  # fmt: skip
        if rng.random() < 0.3 and "logprobs" not in body:
            return "/v1/chat/completions", body | {"messages": [{"role": "user", "content": f"{number} {words}"}]}
        return "/v1/completions", body | {"prompt": f"{number} {words}"}

    async def _open(self, path: str, body: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port, limit=2**12)
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n"
        writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        return reader, writer

    async def _ask(self, path: str, body: Any) -> str:
        reader, writer = await self._open(path, body)
        with contextlib.closing(writer):
            answer = await reader.read()
            while piece := await reader.read(2**16):
                answer += piece
        return answer[9:12].decode()

    async def _leave(self, path: str, body: dict[str, Any]) -> str:
        """At some moment: at once, in the prompt, in the answer."""
        reader, writer = await self._open(path, body | {"max_tokens": 200, "stream": True, "ignore_eos": True})
        with contextlib.closing(writer), contextlib.suppress(TimeoutError, asyncio.IncompleteReadError):
            await asyncio.wait_for(reader.readexactly(2**20), self._rng.choice((0.0, 0.01, 0.05, 0.2)))
        if self._rng.random() < 0.5:
            writer.transport.abort()
        return "left"

    async def _read_slowly(self, path: str, body: dict[str, Any]) -> str:
        reader, writer = await self._open(path, body | {"stream": True})
        with contextlib.closing(writer):
            while await reader.read(200):
                await asyncio.sleep(0.02)
        return "slow"

    def is_idle(self) -> bool:
        names = ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc")
        return sum(self.server.metric(name) for name in names) == 0

    def held(self) -> Held:
        """Asks for the tasks between two requests, so that none of those is the asker's own."""
        self._tasks_file.unlink(missing_ok=True)
        self.server.process.send_signal(signal.SIGUSR2)
        assert eventually(self._tasks_file.exists)
        names = Counter(name.split(" at 0x")[0] for name in json.loads(self._tasks_file.read_text()))
        fds = [len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in (self.server.process.pid, self.engine)]
        return Held(fds[0], fds[1], names, sum(map(num_shared_mappings, (self.server.process.pid, self.engine))))

    def held_at_rest(self) -> Held:
        """The same, when the last answers are wound up."""
        found: list[Held] = []

        def is_at_rest() -> bool:
            found.append(self.held())
            return not any("RequestResponseCycle" in name for name in found[-1].tasks)

        assert eventually(is_at_rest), found[-1]
        return found[-1]

    def rpc(self, method: str) -> Any:
        return self.server.request("POST", "/collective_rpc", {"method": method})[1]["results"][0]


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def num_shared_mappings(pid: int) -> int:
    return sum(line.split()[1].endswith("s") for line in Path(f"/proc/{pid}/maps").read_text().splitlines())


def slope(points: list[tuple[int, int]]) -> float:
    """Bytes per 1,000 requests, by least squares."""
    mean_x, mean_y = (sum(column) / len(points) for column in zip(*points, strict=True))
    return 1e3 * sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)


@pytest.fixture
def soak(tmp_path: Path) -> Iterator[Soak]:
    path = os.pathsep.join(filter(None, (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH"))))
    tasks_file = tmp_path / "tasks.json"
    env = {"KVIK_TASKS_FILE": str(tasks_file), "PYTHONPATH": path, "KVIK_SERVER_DEV_MODE": "1"}
    flags = ("--disable-uvicorn-access-log", "--num-gpu-blocks-override", "2000")
    with KvikServer(*flags, env=env, module="support.watched_kvik") as server:
        try:
            yield Soak(server, tasks_file)
        finally:  # shown when the test fails
            print(server.log[-20_000:])


def check_nothing_stays(soak: Soak, num_requests: int) -> None:
    asyncio.run(soak.send(100))  # whatever is made at the first use is there then
    assert eventually(soak.is_idle)
    before = soak.held_at_rest()
    asyncio.run(soak.send(num_requests))
    assert eventually(soak.is_idle), "requests or blocks are left"
    assert soak.rpc("check_integrity") == "ok"
    state = soak.rpc("describe")
    assert (state["running"], state["waiting"]) == ([], [])
    assert state["num_free_blocks"] == state["num_blocks"]
    # Connections of clients that have just left are closed within moments.
    assert eventually(lambda: soak.held_at_rest() == before), f"{soak.held()}, before {before}"
    assert soak.server.find_engine() == soak.engine, "the engine has died"
    assert not {kind for kind in soak.statuses if kind.split()[-1].startswith("5")}, soak.statuses
    assert not {kind for kind in soak.statuses if kind.startswith("good") and kind != "good 200"}, soak.statuses
    assert "Traceback" not in soak.server.log


def test_some_hundred_requests_leave_nothing_behind(soak: Soak) -> None:
    check_nothing_stays(soak, 200)


@pytest.mark.chaos
@pytest.mark.timeout(7200)
def test_many_requests_leave_nothing_behind(soak: Soak) -> None:
    started_s = time.monotonic()
    check_nothing_stays(soak, LONG)
    late = [sample for sample in soak.samples if sample[0] > WARM_UP]
    of_api, of_engine = (slope([(sample[0], sample[column]) for sample in late]) for column in (1, 2))
    print(
        f"{LONG} requests in {time.monotonic() - started_s:.0f} s, {dict(soak.statuses)}; per 1,000 requests after the "
        f"first {WARM_UP}: API process {of_api / 1e6:+.3f} MB, engine process {of_engine / 1e6:+.3f} MB"
    )
    assert max(of_api, of_engine) < MAX_SLOPE_BYTES
