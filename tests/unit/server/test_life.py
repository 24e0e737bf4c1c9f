"""On a real uvicorn: closed connections, limits on heads, drain, second signal, death of the engine."""

from __future__ import annotations

import asyncio
import json

import pytest

from kvik.errors import EngineDeadError
from kvik.server.lifecycle import Stop
from support.live_server import Live, live_server
from support.server_without_engine import Script

CHAT = json.dumps({"messages": [{"role": "user", "content": "Hi"}]}).encode()
CHAT_STREAM = json.dumps({"messages": [{"role": "user", "content": "Hi"}], "stream": True}).encode()
PROMPTS_STREAM = json.dumps({"prompt": ["a", "b", "c"], "stream": True}).encode()


def test_a_closed_connection_aborts_a_stream() -> None:
    async def scenario() -> None:
        async with live_server() as live:
            live.llm.script = Script(["one", "two"], hold_after=1)
            reader, writer = await live.open("/v1/chat/completions", CHAT_STREAM)
            await reader.readuntil(b'"content":"one"')
            assert live.llm.aborted == []
            writer.close()
            await live.until_aborted()

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_a_closed_connection_aborts_a_stream_that_waits_for_its_first_token() -> None:
    async def scenario() -> None:
        async with live_server() as live:
            live.llm.script = Script(hold_after=0)
            reader, writer = await live.open("/v1/chat/completions", CHAT_STREAM)
            await reader.readuntil(b"\r\n\r\n")
            writer.close()
            await live.until_aborted()

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_a_closed_connection_aborts_all_prompts() -> None:
    async def scenario() -> None:
        async with live_server() as live:
            live.llm.script = Script(["one", "two"], hold_after=1)
            reader, writer = await live.open("/v1/completions", PROMPTS_STREAM)
            await reader.readuntil(b'"index":2')
            writer.close()
            while len(live.llm.aborted) < 3:
                await live.until_aborted()
                await asyncio.sleep(0)
            assert len(set(live.llm.aborted)) == 3

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_a_closed_connection_aborts_an_answer_that_does_not_stream() -> None:
    async def scenario() -> None:
        async with live_server() as live:
            live.llm.script = Script(hold_after=0)
            _, writer = await live.open("/v1/chat/completions", CHAT)
            await live.llm.news.wait()
            writer.close()
            await live.until_aborted()

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_keep_alive_comments_fill_a_silence() -> None:
    async def scenario() -> None:
        async with live_server() as live:
            object.__setattr__(live.state.config, "sse_keep_alive_interval", 0.01)
            live.llm.script = Script(hold_after=0)
            reader, writer = await live.open("/v1/chat/completions", CHAT_STREAM)
            await reader.readuntil(b": keep-alive\n\n")
            await reader.readuntil(b": keep-alive\n\n")
            writer.close()

    asyncio.run(asyncio.wait_for(scenario(), 10))


@pytest.mark.parametrize(
    ("flags", "headers"),
    [({"h11_max_header_count": 5}, "X-A: b\r\n" * 9), ({"h11_max_incomplete_event_size": 2000}, "X-A: " + "b" * 9000)],
)
def test_heads_beyond_the_limits_are_a_431(flags: dict[str, int], headers: str) -> None:
    async def scenario() -> bytes:
        async with live_server(**flags) as live:
            reader, writer = await asyncio.open_connection("127.0.0.1", live.port)
            writer.write(f"GET /health HTTP/1.1\r\n{headers}".encode())
            answer = await reader.read()
            writer.close()
            assert await live.get_status("/health") == 200
            return answer

    head, _, body = asyncio.run(asyncio.wait_for(scenario(), 10)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 ")
    assert json.loads(body)["error"]["code"] == 431


def test_what_is_no_http_is_a_400_with_the_error_body() -> None:
    async def scenario() -> bytes:
        async with live_server() as live:
            reader, writer = await asyncio.open_connection("127.0.0.1", live.port)
            writer.write(b"\x16\x03\x01 hello\r\n\r\n")
            answer = await reader.read()
            writer.close()
            return answer

    head, _, body = asyncio.run(asyncio.wait_for(scenario(), 10)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["error"]["code"] == 400


class Drain:
    """A `shutdown` of the engine client that lasts until it is let go."""

    def __init__(self, live: Live) -> None:
        self.timeout_s: float | None = None
        self.may_end = asyncio.Event()
        self.has_begun = asyncio.Event()
        live.llm.shutdown = self.shutdown  # type: ignore[method-assign]

    async def shutdown(self, drain_timeout_s: float = 0.0) -> None:
        self.timeout_s = drain_timeout_s
        self.has_begun.set()
        await self.may_end.wait()


def test_the_first_signal_drains_while_probes_answer() -> None:
    async def scenario() -> None:
        async with live_server(shutdown_timeout=7) as live:
            drain = Drain(live)
            assert await live.get_status("/health") == 200
            live.stop.notify(15)
            await drain.has_begun.wait()
            assert drain.timeout_s == pytest.approx(7.0, abs=0.5)
            assert await live.get_status("/health") == 503
            assert await live.get_status("/v1/models") == 503
            assert await live.get_status("/metrics") == 200
            assert not live.serving.done()
            drain.may_end.set()
            await live.serving

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_requests_have_ended_before_the_engine_is_told_to() -> None:
    """One request may ask the engine more than once, and its answer has to be sent."""

    async def scenario() -> None:
        async with live_server(shutdown_timeout=20) as live:
            drain = Drain(live)
            live.llm.script = Script(["one", "two"], hold_after=1)
            reader, writer = await live.open("/v1/chat/completions", CHAT_STREAM)
            await reader.readuntil(b'"content":"one"')
            live.stop.notify(15)
            assert await live.get_status("/ready") == 503
            assert not drain.has_begun.is_set()
            writer.close()
            await drain.has_begun.wait()
            assert live.llm.aborted
            drain.may_end.set()
            await live.serving

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_requests_that_do_not_end_in_time_are_the_engine_clients_to_end() -> None:
    async def scenario() -> None:
        async with live_server(shutdown_timeout=0) as live:
            drain = Drain(live)
            live.llm.script = Script(["one", "two"], hold_after=1)
            reader, writer = await live.open("/v1/chat/completions", CHAT_STREAM)
            await reader.readuntil(b'"content":"one"')
            live.stop.notify(15)
            await drain.has_begun.wait()
            assert drain.timeout_s == 0.0
            assert not live.llm.aborted
            writer.close()
            drain.may_end.set()
            await live.serving

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_the_second_signal_stops_at_once_with_open_streams() -> None:
    async def scenario() -> None:
        async with live_server() as live:
            Drain(live)
            live.llm.script = Script(["one", "two"], hold_after=1)
            reader, writer = await live.open("/v1/chat/completions", CHAT_STREAM)
            await reader.readuntil(b'"content":"one"')
            live.stop.notify(2)
            live.stop.notify(2)
            await live.serving
            assert live.llm.aborted
            writer.close()

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_a_signal_that_came_before_serving_is_not_lost() -> None:
    async def scenario() -> None:
        async with live_server() as live:
            late = Stop(lambda count: None)
            late.num_signals = 1
            from prometheus_client import CollectorRegistry

            from kvik.server.app import build_app
            from kvik.server.serve import serve_http
            from kvik.server.sockets import bind

            sock = bind(live.state.config)
            await serve_http(build_app(live.state, CollectorRegistry()), sock, live.state, late)
            assert live.llm.drained_with == pytest.approx(30.0, abs=0.5)

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_a_dead_engine_ends_the_server_with_an_error() -> None:
    async def scenario() -> None:
        async with live_server() as live:
            live.llm.is_dead = True
            with pytest.raises(EngineDeadError):
                await live.serving

    asyncio.run(asyncio.wait_for(scenario(), 10))
