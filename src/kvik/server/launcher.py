"""From the two configs to a running server and back to nothing: the order of things in the API process.

The socket is bound first, then the engine process is started, and only then come the slow imports: they happen while
the engine loads, and while a front desk answers on the socket. This module itself imports nothing slow. Knows no
routes.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, Literal, cast

from kvik.config import EngineConfig
from kvik.config.frontend import ServerConfig
from kvik.config.lora import lora_modules_of
from kvik.server.access.configured import keys_of
from kvik.server.access.startup import check_access, warn_if_open
from kvik.server.formats import formats_of
from kvik.server.hand_over import HandOver
from kvik.server.lifecycle import Stop
from kvik.server.sockets import bind, bind_admin, bound_unsent_bytes, closing, taken, url_of
from kvik.server.starting.answers import StartingAnswers
from kvik.server.starting.front_desk import FrontDesk
from kvik.server.starting.progress import tell_manager
from kvik.server.starting.record import StartRecord
from kvik.server.systemd import ServiceManager, inherited_socket
from kvik.server.tls import check_tls
from kvik.server.tracing.check import read_target
from kvik.telemetry.log import get_logger
from kvik.telemetry.phases import PhaseTimer
from kvik.telemetry.timeline import Timeline

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from kvik.engine_client.async_llm import AsyncLLM
    from kvik.engine_client.core_client import EngineCoreClient
    from kvik.messages import EngineFacts, Phase
    from kvik.server.tracing.tracer import Tracer

logger = get_logger(__name__)

ContentChoice = Literal["auto", "string", "openai"]
SUPPORTED_TASKS = ["generate"]


def run_server(engine_config: EngineConfig, server_config: ServerConfig, earlier: Sequence[Phase] = ()) -> None:
    """Serve until a signal ends it. Returns when the drain is over. `earlier`: phases of this process so far.

    Raises `ConfigError`, `AddressTakenError` and what the engine's start raises; `EngineDeadError` when the engine dies
    later; KeyboardInterrupt when Ctrl+C ends the start. The engine process has ended in every case.
    """
    # Until the event loop listens to signals, they must not end this process over the engine's head.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    record = StartRecord(engine_config, server_config.startup_trace, earlier)
    timer = record.timer
    with timer.phase("bind socket"):
        sock, hand_over = setup_server(server_config)
    own = contextlib.closing(sock) if hand_over is HandOver.SAME_SOCKET else closing(sock)
    with own, closing(bind_admin(server_config)) as admin_sock:
        with timer.phase("spawn engine"):
            from kvik.engine_client.core_client import EngineCoreClient

            engine = EngineCoreClient.spawn(engine_config.observability.log_level)
        try:
            with timer.phase("event loop"):
                import uvloop

                runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
                record.recall()
            with runner:
                runner.run(run_server_worker(engine_config, server_config, sock, engine, record, admin_sock, hand_over))
        finally:
            engine.kill()
            record.close()


def setup_server(config: ServerConfig) -> tuple[socket.socket, HandOver]:
    """The bound socket, not listening yet if it is ours. TLS files, keys, parsers: they are wrong at once or never."""
    check_tls(config)
    formats_of(config)
    check_access(config)
    if config.otlp_traces_endpoint is not None:
        read_target(config.otlp_traces_endpoint)
    ServiceManager.of(os.environ, os.getpid())
    sock, hand_over = _listening_socket(config)
    warn_if_open(config, sock)
    return sock, hand_over


def _listening_socket(config: ServerConfig) -> tuple[socket.socket, HandOver]:
    sock = inherited_socket(os.environ, os.getpid())
    if sock is not None:
        logger.info("serving on the socket that came with LISTEN_FDS; --host, --port and --uds are not used")
        bound_unsent_bytes(sock)
        return sock, HandOver.SAME_SOCKET
    shares = config.connections.reuse_port and not config.uds
    return bind(config), HandOver.SHARED_PORT if shares else HandOver.NOBODY


async def run_server_worker(
    engine_config: EngineConfig,
    server_config: ServerConfig,
    sock: socket.socket,
    engine: EngineCoreClient,
    record: StartRecord,
    admin_sock: socket.socket | None = None,
    hand_over: HandOver = HandOver.NOBODY,
) -> None:
    """Everything that happens inside the event loop. A signal before serving cancels it."""
    worker, timer = asyncio.current_task(), record.timer
    assert worker is not None
    stop = Stop(lambda count: worker.cancel())
    with stop.listening(), front_desk(sock, server_config, record.timeline, hand_over) as desk:
        telling = asyncio.create_task(tell_manager(ServiceManager.of(os.environ, os.getpid()), record.timeline))
        try:
            # Imports run in a thread, so that signals, clients and the engine's messages are heard meanwhile.
            await asyncio.to_thread(_import_engine_client, timer)
            importing = asyncio.create_task(asyncio.to_thread(_import_http, timer, server_config))
            from kvik.telemetry.prefixes import parse_prefixes
            from kvik.telemetry.registry import create_registry

            registry = create_registry(parse_prefixes(server_config.metrics_prefix))
            async with build_async_engine_client(
                engine_config, server_config, engine, timer, registry, record.timeline
            ) as client:
                await importing
                await _serve(client, server_config, registry, sock, record, stop, admin_sock, hand_over, desk)
        except asyncio.CancelledError:
            if not stop.was_asked:
                raise
            logger.info("Stopped before the start was complete")
            if stop.last_signal == signal.SIGINT:
                raise KeyboardInterrupt from None
        finally:
            telling.cancel()


@contextlib.contextmanager
def front_desk(
    sock: socket.socket, config: ServerConfig, timeline: Timeline, hand_over: HandOver
) -> Iterator[FrontDesk | None]:
    """Answers on `sock` until the application does. None where another server may still answer there: it shall get all
    that comes until this one is ready; and connections to a service manager's socket wait until then."""
    if hand_over is not HandOver.NOBODY:
        yield None
        return
    desk = FrontDesk(sock, config, StartingAnswers(config, timeline, lambda: keys_of(config)).answer)
    try:
        desk.open()
    except OSError as error:
        raise taken(f"the address {sock.getsockname()}") from error
    try:
        yield desk
    finally:
        desk.close()


@contextlib.asynccontextmanager
async def build_async_engine_client(
    engine_config: EngineConfig,
    server_config: ServerConfig,
    engine: EngineCoreClient,
    timer: PhaseTimer,
    registry: CollectorRegistry,
    timeline: Timeline | None = None,
) -> AsyncIterator[AsyncLLM]:
    """A ready engine, its metrics and its log line every few seconds, for as long as the context lasts."""
    from kvik.engine_client.async_llm import AsyncLLM
    from kvik.telemetry.stat_loggers import StatLoggerManager
    from kvik.text.chat_template import ChatTemplate

    managers: list[StatLoggerManager] = []

    def make_stat_logger(facts: EngineFacts) -> StatLoggerManager:
        buckets = server_config.custom_histogram_buckets
        managers.append(StatLoggerManager.from_config(engine_config, facts, registry, buckets))
        return managers[0]

    client = await AsyncLLM.from_engine_config(
        engine_config,
        client=engine,
        make_chat_template=lambda tokenizer: ChatTemplate.for_tokenizer(
            tokenizer,
            server_config.chat_template,
            cast(ContentChoice, server_config.chat_template_content_format),
            server_config.default_chat_template_kwargs,
        ),
        make_stat_logger=make_stat_logger,
        phases=timer,
        timeline=timeline,
        recovery=server_config.recovery,
        max_open_request_bytes=server_config.limits.max_open_request_bytes,
        admission=server_config.admission,
    )
    log_lines = asyncio.create_task(managers[0].run())
    try:
        yield client
    finally:
        log_lines.cancel()
        await client.shutdown()


def _import_engine_client(timer: PhaseTimer) -> None:
    with timer.phase("import engine client"):
        import kvik.engine_client.async_llm
        import kvik.telemetry.stat_loggers  # noqa: F401


def _import_http(timer: PhaseTimer, config: ServerConfig) -> None:
    with timer.phase("import http server"):
        import kvik.server.app
        import kvik.server.serve
    if config.otlp_traces_endpoint is not None:
        with timer.phase("import tracing"):
            import kvik.server.tracing.tracer  # noqa: F401


@contextlib.contextmanager
def tracing(endpoint: str | None) -> Iterator[Tracer | None]:
    """Traces go to this collector as long as the context lasts, and a moment longer."""
    if endpoint is None:
        yield None
        return
    from kvik.server.tracing.tracer import Tracer

    tracer = Tracer.to(read_target(endpoint))
    try:
        yield tracer
    finally:
        tracer.close()


async def _serve(
    client: AsyncLLM,
    config: ServerConfig,
    registry: CollectorRegistry,
    sock: socket.socket,
    record: StartRecord,
    stop: Stop,
    admin_sock: socket.socket | None,
    hand_over: HandOver,
    desk: FrontDesk | None,
) -> None:
    from kvik.server.admin_socket import serve_admin
    from kvik.server.app import build_app, init_app_state, route_lines
    from kvik.server.serve import serve_http

    with record.timer.phase("routes"):
        state = init_app_state(client, config)
        state.timeline = record.timeline
        await state.adapters.load_modules(lora_modules_of(config.lora_modules))
        app = build_app(state, registry)
        logger.info("Supported tasks: %s", SUPPORTED_TASKS)
        if config.default_sampling_params:
            logger.info("Using default chat sampling params from model: %s", config.default_sampling_params)
        logger.info("Starting kvik API server 0 on %s", url_of(config, sock))
        logger.info("Available routes are:")
        for line in route_lines(app):
            logger.info("%s", line)
        gc.freeze()  # what the start has made lives as long as the process: no collection needs to walk it again
    manager = ServiceManager.of(os.environ, os.getpid())
    is_listening = record.last_phase("listen")

    def on_ready() -> None:
        is_listening()
        if state.tracer is not None:
            state.tracer.record_start(record.timeline.phases, record.timeline.began_s)

    with tracing(config.otlp_traces_endpoint) as state.tracer:
        async with serve_admin(app, admin_sock, config):
            await serve_http(app, sock, state, stop, on_ready, hand_over, manager, desk)
