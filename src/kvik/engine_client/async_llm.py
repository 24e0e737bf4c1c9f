"""Requests in, streams of outputs out, over an engine in a process of its own.

One task reads the engine's steps and hands each request its share; everything else is called by the server.
Knows no HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Self

from kvik.config import EngineConfig
from kvik.config.admission import AdmissionConfig
from kvik.config.recovery import RecoveryConfig
from kvik.engine_client.admission.admission import AdmissionDesk, QueueLimits
from kvik.engine_client.admission.ticket import Ticket
from kvik.engine_client.admission.timers import RequestTimers
from kvik.engine_client.admission.window import EngineWindow
from kvik.engine_client.arrivals import Arrivals, is_named
from kvik.engine_client.control import EngineControl
from kvik.engine_client.core_client import AsyncCoreClient, EngineCoreClient
from kvik.engine_client.listeners import Listeners, StatLogger
from kvik.engine_client.live_requests import LiveReport, LiveRequests
from kvik.engine_client.memory import MAX_OPEN_REQUEST_BYTES, bytes_of, enter_engine, open_requests
from kvik.engine_client.open_streams import OpenStreams
from kvik.engine_client.readmission import Readmission
from kvik.engine_client.recovery import Recovery
from kvik.engine_client.stall_watch import watch_for_stalls
from kvik.engine_client.start_up import start_engine
from kvik.engine_client.stream import RequestStream
from kvik.errors import (
    EngineDeadError,
    EngineRequestError,
    KvikError,
    OverloadedError,
    RecoveringError,
    RequestError,
)
from kvik.messages import Abort, EngineFacts, LoraRequest, SchedulerStats
from kvik.sampling_params import OutputKind, SamplingParams
from kvik.telemetry.ledger import Ledger
from kvik.telemetry.log import get_logger
from kvik.telemetry.phases import PhaseTimer
from kvik.telemetry.timeline import Timeline
from kvik.text.chat_template import ChatTemplate
from kvik.text.grammar_checks import MAX_CACHED_GRAMMAR_BYTES
from kvik.text.output_processor import OutputProcessor, ProcessedStep
from kvik.text.outputs import RequestOutput
from kvik.text.processor import DEFAULT_PROMPT_OPTIONS, ProcessedRequest, Processor, Prompt, PromptOptions
from kvik.text.tokenizer import Tokenizer

logger = get_logger(__name__)


class AsyncLLM:
    """The engine client of the server. `from_engine_config` makes one that is ready to serve."""

    def __init__(
        self,
        config: EngineConfig,
        client: AsyncCoreClient,
        facts: EngineFacts,
        tokenizer: Tokenizer,
        chat_template: ChatTemplate,
        *,
        stat_logger: StatLogger | None = None,
        timeline: Timeline | None = None,
        recovery: RecoveryConfig = RecoveryConfig(),  # noqa: B008
        max_open_request_bytes: int = MAX_OPEN_REQUEST_BYTES,
        admission: AdmissionConfig = AdmissionConfig(),  # noqa: B008
    ) -> None:
        """Needs a running event loop. `client` has been started; `facts` are what its engine measured."""
        self.config = config
        self.facts = facts
        self.tokenizer = tokenizer
        self.chat_template = chat_template
        self._client = client
        self._listeners = Listeners(stat_logger, timeline)
        self._processor = Processor(config.model, tokenizer, facts.max_model_len, config.structured_outputs)
        self._output_processor = OutputProcessor(tokenizer, config.scheduler.stream_interval)
        self._last_stats = SchedulerStats()
        self.ledger = Ledger()
        """Who holds how much memory."""
        enter_engine(self.ledger, facts, lambda: self._last_stats)
        self.ledger.observe("grammars", lambda: self._processor.grammars.num_cached_bytes, MAX_CACHED_GRAMMAR_BYTES)
        self._memory = open_requests(self.ledger, max_open_request_bytes)
        self._streams = OpenStreams(self._memory, self._is_gone)
        self._readmission = Readmission(client.send)
        self.control = EngineControl(
            client, self.abort_all, self._listeners.sleep,
            send=self._readmission.submit, may_sleep=config.model.enable_sleep_mode, device=facts.device,
        )  # fmt: skip
        """What operators do: pause, sleep, caches."""
        self._desk = AdmissionDesk(
            _queue_limits(config, admission),
            _engine_window(config),
            lambda internal_id, requests: self.control.send(internal_id, requests),
            self._listeners.rejection,
        )
        self._timers = RequestTimers(self._desk, self._end, admission.queue_timeout)
        self._recovery = Recovery(
            client, self._output_processor, self.control, self._readmission, self._fail, self._listeners.recovery,
            desk=self._desk,
        )  # fmt: skip
        self._live_requests = LiveRequests(
            self._output_processor.open_answers, self._desk, lambda: client.utility("describe"), self._streams.caller_of
        )
        self._uses_priorities = config.scheduler.policy == "priority"
        self._queues_while_recovering = recovery.recovery_queue
        self._death: EngineDeadError | None = None
        self._is_draining = False
        self._stall_watch: asyncio.Task[None] | None = None
        self._arrivals = Arrivals()
        self._dead = asyncio.Event()
        self._output_handler = asyncio.create_task(self._handle_outputs(), name="output-handler")

    @classmethod
    async def from_engine_config(
        cls,
        config: EngineConfig,
        *,
        client: EngineCoreClient | None = None,
        make_chat_template: Callable[[Tokenizer], ChatTemplate] = ChatTemplate.for_tokenizer,
        make_stat_logger: Callable[[EngineFacts], StatLogger] | None = None,
        phases: PhaseTimer | None = None,
        timeline: Timeline | None = None,
        recovery: RecoveryConfig = RecoveryConfig(),  # noqa: B008
        max_open_request_bytes: int = MAX_OPEN_REQUEST_BYTES,
        admission: AdmissionConfig = AdmissionConfig(),  # noqa: B008
    ) -> Self:
        """Start the engine (or `client`, spawned before) and wait until it can serve.

        Loads the tokenizer meanwhile. `timeline` hears of the engine's phases, now and when it is replaced. Raises
        `ConfigError`, `ModelFileError`, `InsufficientMemoryError` or `EngineDeadError`; the engine process has ended
        then.
        """
        timer = phases or PhaseTimer("APIServer")
        started = await start_engine(config, client, recovery, make_chat_template, make_stat_logger, timer, timeline)
        with timer.phase("connect engine"):
            llm = cls(
                config,
                started.engine,
                started.facts,
                started.tokenizer,
                started.chat_template,
                stat_logger=started.stat_logger,
                timeline=timeline,
                recovery=recovery,
                max_open_request_bytes=max_open_request_bytes,
                admission=admission,
            )
        if recovery.stall_timeout > 0:
            watch = watch_for_stalls(started.engine, lambda: llm.should_progress, recovery.stall_timeout)
            llm._stall_watch = asyncio.create_task(watch, name="stall-watch")
        return llm

    @property
    def is_dead(self) -> bool:
        return self._death is not None

    @property
    def is_recovering(self) -> bool:
        """The engine has died and is not back yet."""
        return self._recovery.is_recovering and not self.is_dead

    @property
    def should_progress(self) -> bool:
        """Whether a healthy engine would be getting somewhere now."""
        return bool(self._streams) and self.control.may_compute and not self._recovery.is_recovering

    @property
    def num_open_requests(self) -> int:
        return len(self._streams)

    async def wait_dead(self) -> EngineDeadError:
        """Return once the engine has died, with what it died of."""
        await self._dead.wait()
        assert self._death is not None
        return self._death

    async def tokenize(
        self, prompts: Sequence[Prompt], options: PromptOptions = DEFAULT_PROMPT_OPTIONS
    ) -> list[Prompt]:
        """The same prompts, texts being tokenized in bulk and off the event loop. Raises `InvalidRequestError`."""
        return await self._processor.tokenize_async(prompts, options)

    async def add_request(
        self,
        prompt: Prompt,
        sampling_params: SamplingParams,
        request_id: str,
        *,
        priority: int = 0,
        cache_salt: str | None = None,
        options: PromptOptions = DEFAULT_PROMPT_OPTIONS,
        stream_interval: int = 1,
        lora: LoraRequest | None = None,
        ticket: Ticket | None = None,
    ) -> RequestStream:
        """Check the request, hand it to the engine, now or in its turn, and return its outputs.

        All that a client can have done wrong is raised here, as `InvalidRequestError`, before anything is sent.
        `QueueFullError`; `OverloadedError` while shutting down; `EngineDeadError`. `stream_interval` can only raise the
        server's. `ticket` is told how the request waits.
        """
        ticket = ticket or Ticket()
        self._check_not_recovering()
        self._check_open()
        priority = priority if self._uses_priorities else 0
        self._desk.check_hope(priority, ticket)
        with self._arrivals.open(request_id, ticket.caller) as arrival:
            request = await self._processor.process_async(
                prompt, sampling_params, request_id,
                priority=priority, cache_salt=cache_salt, options=options, lora=lora,
            )  # fmt: skip
        self._check_open()
        num_bytes = bytes_of(request)
        self._memory.take(num_bytes)
        queued_s = time.monotonic()
        if not arrival.is_aborted:
            self._submit(request, ticket, num_bytes)
            ticket.note_grammar(request.grammar_wait_s)
        internal_id = request.internal_id
        deltas = sampling_params.output_kind == OutputKind.DELTA
        stream = RequestStream(lambda: self._abandon(internal_id), deltas, num_bytes, ticket.caller)
        self._streams.add(internal_id, stream)
        stream.times = self._output_processor.add_request(
            request, stream_interval, queued_s=queued_s, waiting_for=ticket.waiting_for
        )
        if arrival.is_aborted:
            self._abort([internal_id])
        else:
            self._timers.start(internal_id, ticket)
        return stream

    def check_hope(self, ticket: Ticket) -> None:
        """Raise `QueueFullError` for a request that would be refused whatever it asks, before it has cost anything."""
        self._desk.check_hope(MOST_URGENT if self._uses_priorities else 0, ticket)

    async def generate(
        self,
        prompt: str | list[int],
        sampling_params: SamplingParams,
        request_id: str,
        *,
        priority: int = 0,
        cache_salt: str | None = None,
        options: PromptOptions = DEFAULT_PROMPT_OPTIONS,
        stream_interval: int = 1,
        lora: LoraRequest | None = None,
    ) -> AsyncIterator[RequestOutput]:
        """`add_request` and its outputs in one async generator; closing the generator aborts the request."""
        stream = await self.add_request(
            prompt,
            sampling_params,
            request_id,
            priority=priority,
            cache_salt=cache_salt,
            options=options,
            stream_interval=stream_interval,
            lora=lora,
        )
        try:
            async for output in stream:
                yield output
        finally:
            await stream.aclose()

    async def abort(self, request_id: str, caller: str | None = None) -> int:
        """End the requests of this id, and say how many there were; their streams end with reason "abort".

        Prompt i of several is ID-i; ID names all of them. `caller`: only what this one sent.
        """
        named = self._output_processor.internal_ids(lambda known: is_named(known, request_id))
        internal_ids = [i for i in named if caller is None or self._streams.caller_of(i) == caller]
        self._abort(internal_ids)
        return len(internal_ids) + self._arrivals.abort(request_id, caller)

    def abort_all(self) -> int:
        """End all requests, as `abort` does one; how many there were."""
        internal_ids = self._output_processor.internal_ids()
        self._abort(internal_ids)
        return len(internal_ids) + self._arrivals.abort(None)

    async def describe_requests(self) -> LiveReport:
        """All open sequences. Waits for the engine to say what it holds, a second at most."""
        is_resting = self.control.is_paused or self.control.level is not None
        return await self._live_requests.report(is_recovering=self.is_recovering, is_resting=is_resting)

    async def check_health(self) -> None:
        """Raises `EngineDeadError` if the engine has died."""
        if self._death is not None:
            raise self._death

    async def reset_prefix_cache(self) -> bool:
        """Forget all cached blocks; False while requests hold blocks."""
        return await self.control.reset_prefix_cache()

    async def utility(self, method: str, *args: Any) -> Any:
        """Call a method of the engine by its name. Raises `EngineError` with its failure, or `EngineDeadError`."""
        return await self._client.utility(method, *args)

    async def add_lora(self, lora: LoraRequest) -> str | None:
        """Have the engine read an adapter. None, or what is wrong with it. Raises `EngineError`."""
        problem = await self._client.utility("add_lora", lora.lora_name, lora.lora_int_id, lora.lora_path)
        return None if problem is None else str(problem)

    async def remove_lora(self, lora: LoraRequest) -> None:
        """Free an adapter's place; requests that run with it go on."""
        await self._client.utility("remove_lora", lora.lora_name, lora.lora_int_id, lora.lora_path)

    async def shutdown(self, drain_timeout_s: float = 0.0) -> None:
        """Refuse new requests, let open ones go on for `drain_timeout_s`, end the rest and then the engine.

        Streams that are ended get what they have not read yet, and then an `OverloadedError`.
        """
        self._is_draining = True
        if self._streams and drain_timeout_s > 0 and not self.is_dead:
            logger.info("waiting up to %.0f s for %d open requests", drain_timeout_s, len(self._streams))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._streams.wait_for_none(), drain_timeout_s)
        if not self.is_dead:
            self._end_streams(OverloadedError("the server is shutting down; try another one"))
        ending = [task for task in (self._output_handler, self._stall_watch) if task is not None]
        for task in ending:
            task.cancel()
        await asyncio.wait(ending)
        await self._recovery.close()
        await self._client.shutdown()

    def _submit(self, request: ProcessedRequest, ticket: Ticket, num_bytes: int) -> None:
        """Engine or queue have it then, or this raises and nobody has."""
        try:
            self._desk.submit(request.internal_id, request.engine_requests, ticket)
        except KvikError:
            self._desk.ended(request.internal_id)
            self._memory.give_back(num_bytes)
            raise

    def _check_open(self) -> None:
        if self._death is not None:
            raise self._death
        if self._is_draining:
            raise OverloadedError("the server is shutting down and takes no new requests; try another one")
        most = self.config.scheduler.max_num_queued_reqs
        if most is not None and len(self._streams) >= most:
            text = f"{len(self._streams)} prompts are open, as many as --max-num-queued-reqs allows"
            raise self._desk.refusal("max_num_queued_reqs", text)
        self.control.check_open()

    def _check_not_recovering(self) -> None:
        """For requests that come only now: one that is on its way when the engine dies waits for the next engine."""
        if self.is_recovering and not self._queues_while_recovering:
            raise RecoveringError("the engine is being started again after a failure; try again in a few seconds")

    async def _handle_outputs(self) -> None:
        """Read the steps of one engine after the other, until there is none: then all streams end too."""
        while self._death is None:
            try:
                await self._read_steps()
            except Exception as error:
                if not isinstance(error, EngineDeadError):
                    logger.exception("what the engine sends cannot be read")
                await self._recover(error)

    async def _read_steps(self) -> None:
        """Until the engine ends, or says what cannot be read: what was in it is asked of the next engine again."""
        while True:
            step = await self._client.next_step()
            self._readmission.observe(step)
            self._desk.observe(step)
            self._hand_out(self._output_processor.process(step), step.stats)

    async def _recover(self, error: Exception) -> None:
        self._listeners.failure(error)
        try:
            await self._recovery.recover(error)
        except EngineDeadError as final:
            self._die(final)
        except Exception as failure:
            logger.exception("the engine could not be replaced")
            self._die(EngineDeadError(f"{error}; it could not be replaced: {failure}"))

    def _fail(self, engine_id: str, error: EngineRequestError) -> None:
        self._hand_out(self._output_processor.fail(engine_id, error), None)

    def _hand_out(self, processed: ProcessedStep, scheduler: SchedulerStats | None) -> None:
        """Give each stream its outputs, tell the engine what to abort, and the loggers what there was."""
        aborts = self._desk.withdrawn(processed.aborts)
        for internal_id, output in processed.outputs:
            self._streams.put(internal_id, output)
        if processed.aborts:
            self._readmission.withdraw(processed.aborts)
        if aborts:
            self._client.send(Abort(aborts))
        self._last_stats = scheduler or self._last_stats
        self._desk.release()
        self._listeners.step(None if scheduler is None else self._desk.add_waiting(scheduler), processed.stats)

    def _abort(self, internal_ids: list[str]) -> None:
        if internal_ids:
            with contextlib.suppress(EngineDeadError):  # then there is nothing left to abort
                self._hand_out(self._output_processor.abort(internal_ids), None)

    def _end_streams(self, error: OverloadedError) -> None:
        """End all requests, and tell their readers why."""
        self._streams.fail_all(lambda: error)
        self._abort(self._output_processor.internal_ids())

    def _end(self, internal_id: str, error: RequestError) -> None:
        """A request's time is over."""
        if self._streams.fail(internal_id, error):
            self._abandon(internal_id)

    def _abandon(self, internal_id: str) -> None:
        """The reader of a stream has left."""
        if not self.is_dead:
            self._abort([internal_id])
        self._streams.forget(internal_id)

    def _is_gone(self, internal_id: str) -> None:
        """Nobody waits for this request any more."""
        self._timers.stop(internal_id)
        self._desk.ended(internal_id)
        self.control.ended(internal_id)

    def _die(self, error: EngineDeadError) -> None:
        self._listeners.death()
        logger.error("the engine is dead: %s", error)
        self._death = error
        self._streams.fail_all(lambda: EngineDeadError(str(error)))
        self._streams.forget_all()
        self._dead.set()


MOST_URGENT = -(2**63)
"""Priority of a request that may still turn out to go before all others."""
PREFILL_STEPS = 2
"""Steps' worth of prompts that the engine is given ahead."""


def _engine_window(config: EngineConfig) -> EngineWindow:
    scheduler = config.scheduler
    return EngineWindow(scheduler.max_num_seqs, PREFILL_STEPS * scheduler.max_num_batched_tokens)


def _queue_limits(config: EngineConfig, asked: AdmissionConfig) -> QueueLimits:
    limits = [n for n in (asked.max_queued_tokens, config.scheduler.max_num_queued_tokens) if n]
    return QueueLimits(max_requests=asked.max_queued_requests, max_tokens=min(limits, default=0))
