"""Random traffic on small pools: whatever happens, each request gets the tokens it would have got alone.

So it does when steps are planned while the ones before are under way.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from dataclasses import dataclass
from itertools import chain

import numpy as np
from fake_executor import FakeExecutor, fake_token
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kvik.config import CacheConfig, SchedulerConfig
from kvik.config.lora import LoraConfig
from kvik.config.speculative import SpeculativeConfig
from kvik.messages import EventKind, FinishReason, LoraRequest, NewRequest, Resumed, TokenDelta
from kvik.sampling_params import SamplingParams
from kvik.scheduler import Scheduler
from kvik.scheduler.constraints import Constraints, GrammarWish
from kvik.step import ScheduledRequest, StepPlan
from kvik.structured_outputs import StructuredOutputs

VOCAB_SIZE = 12
EOS = 0
STOP = 1
MAX_MODEL_LEN = 24


@dataclass(frozen=True)
class Arrival:
    """A request, when it comes, and when its client loses patience."""

    step: int
    prompt: tuple[int, ...]
    max_tokens: int | None
    priority: int
    salt: str | None
    prompt_logprobs: bool
    abort_step: int | None
    fails_at: int | None
    adapter: int | None = None
    has_grammar: bool = False
    looks_at_tokens: bool = False
    """It has a wish that keeps it from running ahead of its own tokens."""


@dataclass(frozen=True)
class Setting:
    scheduler: SchedulerConfig
    cache: CacheConfig
    num_blocks: int
    speculative: SpeculativeConfig | None = None
    period: int | None = None
    """Of each request's answer; None: it does not repeat."""
    lora: LoraConfig = LoraConfig()  # noqa: RUF009
    num_under_way: int = 0
    """Steps that may be under way while another one is planned."""


class Followed:
    """A grammar that allows anything. Its mask is the number of tokens that it has been told of."""

    def __init__(self) -> None:
        self.num_told = 0
        self.error: str | None = None
        self.is_complete = False

    def count_valid(self, token_ids: list[int]) -> int:
        return len(token_ids)

    def masks(self, draft_token_ids: list[int]) -> np.ndarray:
        return np.array([[self.num_told + i] for i in range(1 + len(draft_token_ids))], np.uint32)

    def advance(self, token_id: int) -> bool:
        self.num_told += 1
        return True


class PromptPreparer:
    """Grammars are there when they are asked for again."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Followed]] = []

    def submit(self, request_id: str, wish: GrammarWish) -> None:
        followed = Followed()
        followed.num_told = len(wish.answer_token_ids)
        self.asked.append((request_id, followed))

    def take_ready(self) -> list[tuple[str, Followed]]:
        ready, self.asked = self.asked, []
        return ready


class Metronome:
    """A clock by which all steps take equally long, however many rows they have: drafts always pay."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 1.0
        return self.now_s


prompts = st.builds(
    lambda shared, own: (*((2, 3) * 10)[:shared], *own),
    st.integers(0, 16),
    st.lists(st.integers(2, 4), min_size=1, max_size=6),
)
rarely = st.sampled_from([None] * 6 + [0, 3, 9])
arrivals = st.builds(
    Arrival,
    step=st.integers(0, 12),
    prompt=prompts,
    max_tokens=st.one_of(st.none(), st.integers(1, 12)),
    priority=st.integers(-1, 1),
    salt=st.sampled_from([None, None, None, "a", "b"]),
    prompt_logprobs=st.sampled_from([False, False, False, True]),
    abort_step=rarely,
    fails_at=rarely,
    adapter=st.sampled_from([None, None, 1, 2, 3]),
    has_grammar=st.sampled_from([False, False, False, True]),
    looks_at_tokens=st.sampled_from([False, False, False, True]),
)


@st.composite
def setups(draw: st.DrawFn) -> Setting:
    chunked = draw(st.booleans())
    scheduler = SchedulerConfig(
        max_num_batched_tokens=draw(st.integers(1, 30)) if chunked else MAX_MODEL_LEN + draw(st.integers(0, 9)),
        max_step_ms=draw(st.sampled_from([0, None, 2.0, 7.0])) if chunked else 0,
        max_num_seqs=draw(st.integers(1, 5)),
        policy=draw(st.sampled_from(["fcfs", "priority"])),
        enable_chunked_prefill=chunked,
        long_prefill_token_threshold=draw(st.sampled_from([0, 0, 1, 3])),
        scheduler_reserve_full_isl=draw(st.booleans()),
        watermark=draw(st.sampled_from([0.0, 0.0, 0.2])),
    )
    cache = CacheConfig(
        block_size=draw(st.integers(1, 5)), enable_prefix_caching=draw(st.sampled_from([True, True, False]))
    )
    speculative = draw(st.one_of(st.none(), st.builds(drafts, st.sampled_from(["ngram", "suffix"]), st.integers(1, 6))))
    period = draw(st.sampled_from([None, 1, 2, 4]))
    max_loras = draw(st.integers(1, 3))
    lora = LoraConfig(max_loras=max_loras, max_cpu_loras=draw(st.integers(max_loras, 4)))
    num_under_way = draw(st.sampled_from([0, 1, 1, 2])) if speculative is None else 0
    return Setting(scheduler, cache, draw(st.integers(1, 20)), speculative, period, lora, num_under_way)


def drafts(method: str, num_tokens: int) -> SpeculativeConfig:
    return SpeculativeConfig(method, num_tokens, prompt_lookup_min=1, prompt_lookup_max=3)


class Client:
    """Sends arrivals, collects deltas, and keeps the books that are checked in the end."""

    def __init__(self, setting: Setting, arrivals: list[Arrival]) -> None:
        self.setting = setting
        self.arrivals = {f"r{index}": arrival for index, arrival in enumerate(arrivals)}
        self.deltas: dict[str, list[TokenDelta]] = {request_id: [] for request_id in self.arrivals}
        self.num_accepted = 0
        self._start_engine()

    def _start_engine(self) -> None:
        setting = self.setting
        self.scheduler = Scheduler(
            setting.scheduler,
            setting.cache,
            setting.num_blocks,
            MAX_MODEL_LEN,
            Metronome(),
            setting.speculative,
            Constraints(PromptPreparer()),  # type: ignore[arg-type]
            setting.lora,
        )
        self.under_way: deque[StepPlan] = deque()
        self.tables: dict[str, list[int]] = {}
        """As the plans tell of them, up to the newest one."""
        self.tables_under_way: deque[list[list[int]]] = deque()
        self.executor = FakeExecutor(
            num_blocks=setting.num_blocks,
            block_size=setting.cache.block_size,
            max_model_len=MAX_MODEL_LEN,
            vocab_size=VOCAB_SIZE,
            failing={i: a.fails_at for i, a in self.arrivals.items() if a.fails_at is not None},
            period=setting.period,
        )

    def run(self, crashes: frozenset[int] = frozenset()) -> None:
        """Until nothing is left to do. Before these steps, engine and cache are lost and others take their place."""
        last_arrival = max((a.step for a in self.arrivals.values()), default=0)
        # Each step that computes anything moves at least one token; recomputation repeats a request's tokens at most
        # once for each token that an older request gains.
        bound = 100 + 2 * last_arrival + MAX_MODEL_LEN * MAX_MODEL_LEN * len(self.arrivals)
        step = 0
        while step <= last_arrival or self.scheduler.has_work:
            assert step < bound, "a request starves"
            if step in crashes:
                self._replace_engine(step)
            self._send(step)
            self._step()
            step += 1

    def _replace_engine(self, step: int) -> None:
        self._start_engine()
        for request_id, arrival in self.arrivals.items():
            deltas = self.deltas[request_id]
            if arrival.step < step and (not deltas or deltas[-1].finish_reason is None):
                num_prompt_logprobs = sum(len(delta.new_prompt_logprobs or []) for delta in deltas)
                message = as_request(request_id, arrival)
                message.resumed = Resumed(self.tokens(request_id), num_prompt_logprobs)
                self.scheduler.add(message)

    def _send(self, step: int) -> None:
        for request_id, arrival in self.arrivals.items():
            if arrival.step == step:
                self.scheduler.add(as_request(request_id, arrival))
            if arrival.abort_step is not None and arrival.step + arrival.abort_step == step:
                self.scheduler.abort([request_id])

    def _step(self) -> None:
        plan = self.scheduler.schedule()
        self._collect(self.scheduler.take_ended())
        if plan is not None:
            self._check_plan(plan)
            self.under_way.append(plan)
        if self.under_way and (plan is None or len(self.under_way) > self.setting.num_under_way):
            self._land(self.under_way.popleft())
        self.scheduler.check_integrity()

    def _land(self, plan: StepPlan) -> None:
        """Computed as late as can be: whatever was planned meanwhile must not have changed this plan."""
        self._collect(self.scheduler.update(plan, self.executor.execute(plan)))
        self.tables_under_way.popleft()
        self.scheduler.learn_step_time(plan, 1e-3 * (1 + plan.num_scheduled_tokens))
        stats = self.scheduler.stats()
        assert stats.num_running <= self.setting.scheduler.max_num_seqs
        self.num_accepted += stats.spec_decode.num_accepted_tokens if stats.spec_decode is not None else 0

    def _check_plan(self, plan: StepPlan) -> None:
        assert plan.num_scheduled_tokens <= self.setting.scheduler.max_num_batched_tokens
        assert len(plan.scheduled) <= self.setting.scheduler.max_num_seqs
        assert len({s.request_id for s in plan.scheduled}) == len(plan.scheduled)
        self._check_adapters(plan)
        self._check_blocks(plan)
        for share in plan.scheduled:
            self._check_known(share)

    def _check_blocks(self, plan: StepPlan) -> None:
        """What a request gets to write to is used by no step that is under way."""
        in_use = set(chain.from_iterable(chain.from_iterable(self.tables_under_way)))
        for request_id in plan.dropped_request_ids:
            self.tables.pop(request_id, None)
        for share in plan.scheduled:
            first_written = 0 if share.request_id in self.tables else share.num_computed_tokens // self._block_size
            assert in_use.isdisjoint(share.new_block_ids[first_written:]), "a block of a step under way is handed out"
            self.tables.setdefault(share.request_id, []).extend(share.new_block_ids)
        self.tables_under_way.append([list(self.tables[share.request_id]) for share in plan.scheduled])

    def _check_known(self, share: ScheduledRequest) -> None:
        """Who looks at its tokens knows them all, and its grammar was told of each."""
        arrival = self.arrivals[share.request_id]
        num_known = len(arrival.prompt) + len(self.tokens(share.request_id))
        num_computed = share.num_computed_tokens + share.num_known_tokens
        assert share.input_in_flight == (num_computed > num_known)
        assert not (share.input_in_flight and (arrival.has_grammar or arrival.looks_at_tokens))
        if arrival.has_grammar and num_computed == num_known:
            assert share.token_masks is not None
            assert share.token_masks[0, 0] == num_known - len(arrival.prompt)
        else:
            assert share.token_masks is None

    @property
    def _block_size(self) -> int:
        return self.setting.cache.block_size

    def _check_adapters(self, plan: StepPlan) -> None:
        adapters = [self.arrivals[share.request_id].adapter for share in plan.scheduled]
        assert len({adapter for adapter in adapters if adapter}) <= self.setting.lora.max_loras
        for request in plan.admitted:
            assert -1 <= request.lora_slot < self.setting.lora.max_cpu_loras

    def _collect(self, deltas: list[TokenDelta]) -> None:
        for delta in deltas:
            received = self.deltas[delta.request_id]
            assert not received or received[-1].finish_reason is None, "a delta after the last one"
            received.append(delta)

    def tokens(self, request_id: str) -> list[int]:
        return [token for delta in self.deltas[request_id] for token in delta.new_token_ids]


def as_request(request_id: str, arrival: Arrival) -> NewRequest:
    return NewRequest(
        request_id=request_id,
        prompt_token_ids=list(arrival.prompt),
        sampling_params=SamplingParams(
            max_tokens=arrival.max_tokens,
            stop_token_ids=[STOP],
            prompt_logprobs=0 if arrival.prompt_logprobs else None,
            structured_outputs=StructuredOutputs(compiled="any") if arrival.has_grammar else None,
            bad_words_token_ids=[[EOS, EOS]] if arrival.looks_at_tokens else [],
        ),
        arrival_time_s=float(arrival.step),
        eos_token_id=EOS,
        priority=arrival.priority,
        cache_salt=arrival.salt,
        lora=None if arrival.adapter is None else LoraRequest(f"a{arrival.adapter}", arrival.adapter, "/a"),
    )


def alone(request_id: str, arrival: Arrival, setting: Setting) -> tuple[list[int], FinishReason, int | None]:
    """Tokens, finish reason and stop reason of a request that nobody disturbs."""
    outputs: list[int] = []
    while True:
        num_known = len(arrival.prompt) + len(outputs)
        if -(-num_known // setting.cache.block_size) > setting.num_blocks:
            return outputs, FinishReason.ERROR, None
        if arrival.fails_at is not None and arrival.fails_at < num_known:
            return outputs, FinishReason.ERROR, None
        token = fake_token(request_id, num_known, VOCAB_SIZE, setting.period)
        outputs.append(token)
        if token in (EOS, STOP):
            return outputs, FinishReason.STOP, None if token == EOS else STOP
        if num_known + 1 >= MAX_MODEL_LEN or len(outputs) == arrival.max_tokens:
            return outputs, FinishReason.LENGTH, None


ROOMY = Setting(SchedulerConfig(max_num_batched_tokens=64), CacheConfig(block_size=4), num_blocks=64)
AHEAD = dataclasses.replace(ROOMY, num_under_way=1)
SAME_PROMPT = Arrival(0, (2, 3) * 6, 5, 0, None, False, None, None)


@settings(max_examples=400, deadline=None)
@given(setting=setups(), arrivals=st.lists(arrivals, max_size=8))
@example(setting=ROOMY, arrivals=[dataclasses.replace(SAME_PROMPT, fails_at=2), SAME_PROMPT, SAME_PROMPT])
@example(setting=dataclasses.replace(ROOMY, num_blocks=5), arrivals=[SAME_PROMPT] * 3)
@example(setting=AHEAD, arrivals=[dataclasses.replace(SAME_PROMPT, fails_at=2), *[SAME_PROMPT] * 2])
@example(
    setting=AHEAD, arrivals=[dataclasses.replace(SAME_PROMPT, fails_at=2), dataclasses.replace(SAME_PROMPT, step=1)]
)
@example(setting=AHEAD, arrivals=[dataclasses.replace(SAME_PROMPT, fails_at=13), *[SAME_PROMPT] * 2])
@example(setting=dataclasses.replace(AHEAD, num_blocks=5), arrivals=[SAME_PROMPT] * 3)
def test_every_request_gets_what_it_would_get_alone(setting: Setting, arrivals: list[Arrival]) -> None:
    client = Client(setting, arrivals)
    client.run()
    for request_id, arrival in client.arrivals.items():
        check_answer(client, request_id, arrival)
    assert client.scheduler.stats().kv_cache_usage == 0.0
    assert client.scheduler.reset_prefix_cache()
    client.scheduler.check_integrity()


@settings(max_examples=200, deadline=None)
@given(setting=setups(), arrivals=st.lists(arrivals, max_size=6), crashes=st.frozensets(st.integers(1, 40), max_size=4))
@example(setting=ROOMY, arrivals=[SAME_PROMPT] * 3, crashes=frozenset({2}))
@example(setting=AHEAD, arrivals=[SAME_PROMPT] * 3, crashes=frozenset({2, 4}))
def test_another_engine_goes_on_with_the_same_tokens(
    setting: Setting, arrivals: list[Arrival], crashes: frozenset[int]
) -> None:
    client = Client(setting, [dataclasses.replace(a, fails_at=None, abort_step=None) for a in arrivals])
    client.run(crashes)
    for request_id, arrival in client.arrivals.items():
        last = client.deltas[request_id][-1]
        expected = alone(request_id, arrival, setting)
        assert (client.tokens(request_id), last.finish_reason, last.stop_reason) == expected
        if arrival.prompt_logprobs and expected[0]:
            check_prompt_logprobs(client.deltas[request_id], arrival)
    client.scheduler.check_integrity()


@settings(max_examples=50, deadline=None)
@given(method=st.sampled_from(["ngram", "suffix"]), num_requests=st.integers(1, 3), block_size=st.integers(1, 5))
def test_text_that_repeats_takes_fewer_steps(method: str, num_requests: int, block_size: int) -> None:
    cache = CacheConfig(block_size=block_size)
    plain = dataclasses.replace(ROOMY, cache=cache, period=1)
    speculative = dataclasses.replace(plain, speculative=drafts(method, 4))
    num_steps, num_accepted = [], []
    for setting in (plain, speculative):
        client = Client(setting, [dataclasses.replace(SAME_PROMPT, max_tokens=12)] * num_requests)
        client.run()
        for request_id, arrival in client.arrivals.items():
            check_answer(client, request_id, arrival)
        num_steps.append(client.executor.num_steps)
        num_accepted.append(client.num_accepted)
    assert num_steps[1] < num_steps[0]
    assert num_accepted[0] == 0 < num_accepted[1]


def test_streams_go_on_while_the_last_step_is_under_way() -> None:
    """As many steps as without: each is planned before the one before it is over, but the request's end is not known
    before its length says so. Who looks at its tokens waits for them."""
    client = Client(AHEAD, [SAME_PROMPT])
    client.run()
    assert client.executor.num_steps == 5
    patient = dataclasses.replace(SAME_PROMPT, looks_at_tokens=True)
    client = Client(AHEAD, [SAME_PROMPT, patient])
    client.run()
    for request_id, arrival in client.arrivals.items():
        check_answer(client, request_id, arrival)


def check_answer(client: Client, request_id: str, arrival: Arrival) -> None:
    deltas, tokens = client.deltas[request_id], client.tokens(request_id)
    last = deltas[-1]
    expected, reason, stop_reason = alone(request_id, arrival, client.setting)
    if arrival.fails_at is not None and arrival.fails_at < last.num_cached_tokens:
        # A position that comes from the prefix cache is not computed for this request, so it cannot fail, unless the
        # request is preempted and the cache has lost it until then.
        healthy = dataclasses.replace(arrival, fails_at=None)
        expected, reason, stop_reason = alone(request_id, healthy, client.setting)
        if last.finish_reason is FinishReason.ERROR and "on purpose" in (last.error or ""):
            expected, reason, stop_reason = expected[: len(tokens)], FinishReason.ERROR, None
    assert last.finish_reason is not None
    if last.finish_reason is FinishReason.ABORT:
        assert arrival.abort_step is not None
        assert tokens == expected[: len(tokens)]
        return
    assert (tokens, last.finish_reason, last.stop_reason) == (expected, reason, stop_reason)
    assert (last.error is not None) == (reason is FinishReason.ERROR)
    assert last.num_cached_tokens <= len(arrival.prompt) - 1
    check_events(deltas)
    if arrival.prompt_logprobs:
        assert last.num_cached_tokens == 0
        if tokens:
            check_prompt_logprobs(deltas, arrival)


def check_events(deltas: list[TokenDelta]) -> None:
    kinds = [event.kind for delta in deltas for event in delta.events]
    times = [event.time_s for delta in deltas for event in delta.events]
    assert kinds[0] is EventKind.QUEUED
    expected = [EventKind.SCHEDULED, EventKind.PREEMPTED] * len(kinds)
    assert kinds[1:] == expected[: len(kinds) - 1]
    assert times == sorted(times)


def check_prompt_logprobs(deltas: list[TokenDelta], arrival: Arrival) -> None:
    entries = [entry for delta in deltas for entry in delta.new_prompt_logprobs or []]
    told = [None if entry is None else entry.token_ids[0] for entry in entries]
    assert told == [None, *arrival.prompt[1:]]
