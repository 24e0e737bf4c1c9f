"""The scheduler: which tokens are computed in the next step, and what the last one brought.

There is no prefill phase and no decode phase. Each request has tokens that are known and tokens that are computed;
a step lets the computed ones catch up, within a budget of tokens and one of time. A prompt catches up in chunks, a
decoding request by one token a step. Requests that decode come first, then prompts that run, in order; then those that
wait, while budgets, seats and blocks last.

Knows no tensor, no text and no socket. Sole writer of request status and token ids.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from kvik.blocks import KVCacheBlock, KVCacheManager
from kvik.config import CacheConfig, SchedulerConfig
from kvik.config.lora import LoraConfig
from kvik.config.speculative import SpeculativeConfig
from kvik.errors import EngineError, EngineRequestError
from kvik.messages import EventKind, FinishReason, LoraRequest, NewRequest, SchedulerStats, TokenDelta
from kvik.scheduler.adapters import AdapterSlots, Turns
from kvik.scheduler.constraints import Constraints, constraint_error, constraint_param
from kvik.scheduler.counters import StepCounters
from kvik.scheduler.draft import StepDraft
from kvik.scheduler.flights import Flight, Flights, Holding
from kvik.scheduler.limits import Limits
from kvik.scheduler.policies import make_policy
from kvik.scheduler.report import describe_request
from kvik.scheduler.request import FINISH_REASONS, Request, RequestStatus
from kvik.scheduler.results import cut_to, make_delta, take_unsent_prompt_logprobs, why_unexpected
from kvik.scheduler.speculation import Speculation
from kvik.scheduler.stop import append_until_stop
from kvik.scheduler.taint import tables_without_valid_blocks
from kvik.scheduler.time_budget import TimeBudget
from kvik.scheduler.waiting import HeldUp, Lack
from kvik.step import SampledTokens, ScheduledRequest, StepPlan, StepResult


class Scheduler:
    """`num_blocks` are the usable blocks; their ids are 1 to num_blocks, so a runner's tensors have one row more.

    Each plan that `schedule` gives is computed in its turn and comes back to `update`, in the same order. The next
    may be planned before that: what it can count on then is told in `flights.py`. `take_ended` gives the last words
    of requests that ended outside of a step.
    """

    def __init__(
        self,
        config: SchedulerConfig,
        cache: CacheConfig,
        num_blocks: int,
        max_model_len: int,
        clock: Callable[[], float] = time.monotonic,
        speculative: SpeculativeConfig | None = None,
        constraints: Constraints | None = None,
        lora: LoraConfig | None = None,
    ) -> None:
        self._config = config
        self._clock = clock
        self._blocks = KVCacheManager(
            num_blocks,
            cache.block_size,
            enable_prefix_caching=cache.enable_prefix_caching,
            hash_algorithm=cache.prefix_caching_hash_algo,
        )
        self._limits = Limits(
            max_model_len=max_model_len,
            num_blocks=num_blocks,
            block_size=cache.block_size,
            max_num_batched_tokens=config.max_num_batched_tokens,
            enable_chunked_prefill=config.enable_chunked_prefill,
        )
        self._num_watermark_blocks = int(config.watermark * num_blocks)
        self._requests: dict[str, Request] = {}
        self._waiting = make_policy(config.policy)
        self._running: list[Request] = []
        self._flights = Flights()
        self._dropped_ids: list[str] = []
        self._ended: list[TokenDelta] = []
        self._counters = StepCounters()
        self._held_up = HeldUp()
        self._time_budget = TimeBudget(config.max_step_ms, min_tokens=cache.block_size)
        self._constraints = constraints
        self._speculation = None if speculative is None else Speculation(speculative, self._blocks, clock)
        self._adapters = None if lora is None else AdapterSlots(lora)

    # --- requests come and go -----------------------------------------------------------------------

    @property
    def has_work(self) -> bool:
        """Whether there is a request, the last word of one that nobody has fetched, or a step under way."""
        return bool(self._requests or self._ended or self._flights)

    @property
    def has_last_words(self) -> bool:
        """Whether requests have ended outside of a step and nobody has fetched that."""
        return bool(self._ended)

    def add(self, message: NewRequest) -> None:
        """Queue a request. Raises `InvalidRequestError` when it can never run, `EngineRequestError` on a used id."""
        self._limits.check_prompt_length(len(message.prompt_token_ids))
        if message.request_id in self._requests:
            raise EngineRequestError(f"request id {message.request_id!r} is in use; both requests are ended")
        if message.lora is not None and self._adapters is None:
            raise EngineRequestError(f"adapter {message.lora.lora_name!r} cannot be used: adapters are off")
        request = Request.from_message(message, self._limits.max_model_len)
        request.queued_s = self._clock()
        request.add_event(EventKind.QUEUED, request.queued_s)
        if request.sampling_params.structured_outputs is not None:
            self._prepare(request)
        else:
            self._queue(request)
        self._requests[request.request_id] = request

    def abort(self, request_ids: Iterable[str]) -> None:
        """End requests wherever they stand. Their blocks are free at once, or when the steps under way are over.

        Unknown ids are finished ones: ignored.
        """
        for request_id in request_ids:
            request = self._requests.get(request_id)
            if request is not None:
                self._end(request, RequestStatus.FINISHED_ABORTED)

    def fail(self, request_id: str, error: str, param: str | None = None) -> None:
        """End a request with an error of its own, `param` its field to blame.

        One that was never queued only gets its last word.
        """
        request = self._requests.get(request_id)
        if request is not None:
            self._end(request, RequestStatus.FINISHED_ERROR, error, param)
        else:
            last = TokenDelta(request_id, [], finish_reason=FinishReason.ERROR, error=error, error_param=param)
            self._ended.append(last)

    def take_ended(self) -> list[TokenDelta]:
        """Last words of requests that ended outside of `update`, once."""
        ended, self._ended = self._ended, []
        return ended

    def _queue(self, request: Request) -> None:
        request.waits_since_s = self._clock()
        self._waiting.push(request)

    # --- grammars -----------------------------------------------------------------------------------

    def _prepare(self, request: Request) -> None:
        """Have its grammar compiled; meanwhile others overtake it."""
        if self._constraints is None:
            raise EngineRequestError("this engine follows no grammars, and the request has one")
        request.status = RequestStatus.PREPARING
        self._constraints.prepare(request)

    def _queue_prepared(self) -> None:
        """Those whose grammar is ready wait like all others from now on."""
        for request_id, error in self._constraints.take_ready(self._requests) if self._constraints else ():
            request = self._requests[request_id]
            if error is not None:
                self._end(request, RequestStatus.FINISHED_ERROR, error, constraint_param(request))
            else:
                request.move_to(RequestStatus.WAITING)
                self._queue(request)

    # --- one step -----------------------------------------------------------------------------------

    def schedule(self) -> StepPlan | None:
        """Plan the next step, or None when nothing can be computed now, or not before a step under way is over."""
        self._queue_prepared()
        draft = StepDraft(self._config.max_num_batched_tokens)
        decoding, prompts = [], []
        for request in self._running:
            num_tokens = request.num_ready_tokens
            if num_tokens == 1:
                decoding.append(request)
            elif num_tokens > 1:
                prompts.append(request)
        if not self._flights.have_room(decoding, prompts, self._blocks, self._longest_chunk()):
            return None
        self._schedule_running(draft, decoding)
        num_prompts = min(len(prompts) + len(self._waiting), self._config.max_num_seqs)
        draft.prompt_time = self._time_budget.for_prompts(list(draft.shares.values()), num_prompts)
        self._schedule_running(draft, prompts)
        if self._speculation is not None and not self._waiting:
            self._speculation.add_drafts(draft)
        for request, share in draft.shares.items():
            self._advance(request, share.num_known_tokens)
        self._held_up = self._hold_up(Lack.BLOCKS) if draft.has_preempted else self._admit_waiting(draft)
        if not draft.shares:
            return None
        dropped, self._dropped_ids = self._dropped_ids, []
        if self._constraints is not None:
            self._constraints.write_masks(draft)
        if self._speculation is not None:
            self._speculation.planned()
        plan = draft.plan(dropped)
        self._flights.depart(plan, draft.shares)
        return plan

    def update(self, plan: StepPlan, result: StepResult) -> list[TokenDelta]:
        """Take in what a step brought; returns what is new for each request that has something new.

        Raises `EngineError` when the result does not fit the plan. What is wrong with a single request ends only it.
        """
        if [s.request_id for s in result.sampled] != [s.request_id for s in plan.scheduled]:
            raise EngineError(f"the executor answered for {len(result.sampled)} requests, not for those of the plan")
        flight = self._flights.land(plan)
        if flight is None:
            raise EngineError("the executor answered for a step that is not the next one to end")
        if self._speculation is not None:
            self._speculation.computed(plan)
        self._recompute_readers_of_failed(flight, result)
        deltas = []
        for request, share, sampled in zip(flight.tables, plan.scheduled, result.sampled, strict=True):
            if request.status is not RequestStatus.RUNNING or request in flight.void:
                continue
            delta = self._absorb(request, sampled, share)
            if delta is not None:
                deltas.append(delta)
        for holding in flight.kept:
            self._give_back(holding)
        self._running = [r for r in self._running if r.status is RequestStatus.RUNNING]
        return deltas

    def learn_step_time(self, plan: StepPlan, seconds: float) -> None:
        """Tell how long the step of `plan` took as a whole; the time budget of later steps depends on it."""
        self._time_budget.learn(plan, seconds)

    # --- planning -----------------------------------------------------------------------------------

    def _schedule_running(self, draft: StepDraft, requests: list[Request]) -> None:
        longest_chunk = self._longest_chunk()
        for request in requests:
            if request.status is not RequestStatus.RUNNING:
                continue  # preempted for the sake of one before it
            num_computed = request.num_computed_tokens
            num_tokens = draft.fit(num_computed, min(request.num_ready_tokens, longest_chunk))
            if num_tokens == 0:
                break
            new_block_ids = self._grow(request, num_computed + num_tokens, draft)
            if new_block_ids is not None:
                draft.add(request, num_tokens, new_block_ids)

    def _grow(self, request: Request, num_tokens: int, draft: StepDraft) -> list[int] | None:
        """Blocks for `num_tokens` of a running request, at the cost of others. None: it runs no more."""
        while (new_block_ids := self._blocks.grow(request.blocks, num_tokens)) is None:
            if (error := self._limits.why_too_large(num_tokens)) is not None:
                self._end(request, RequestStatus.FINISHED_ERROR, error)
                return None
            victim = self._waiting.victim(self._running)
            self._preempt(victim)
            draft.discard(victim)
            draft.has_preempted = True
            if victim is request:
                return None
        return new_block_ids

    def _admit_waiting(self, draft: StepDraft) -> HeldUp:
        """Seat requests in the order of their turn. The first without budget or blocks ends the scan: no overtaking."""
        with Turns(self._waiting, self._adapters, self._clock) as turns:
            lack = self._lack_of_all(draft)
            while lack is None and (request := turns.next()) is not None:
                error = self._limits.why_too_large(request.num_tokens) or self._limits.why_too_long_for_a_step(
                    request.num_tokens
                )
                if error is not None:
                    self._end(request, RequestStatus.FINISHED_ERROR, error)
                else:
                    lack = self._admit(request, draft) or self._lack_of_all(draft)
            return self._hold_up(lack or Lack.BUDGET, turns.aside)

    def _hold_up(self, lack: Lack, without_adapter: Iterable[Request] = ()) -> HeldUp:
        return HeldUp(lack, frozenset(request.request_id for request in without_adapter), self._clock())

    def _lack_of_all(self, draft: StepDraft) -> Lack | None:
        """Why nobody at all can be admitted any more."""
        if len(self._running) >= self._config.max_num_seqs:
            return Lack.SLOTS
        return Lack.BUDGET if draft.is_full else None

    def _admit(self, request: Request, draft: StepDraft) -> Lack | None:
        """Let the request run, with its first chunk; or what there was not enough of."""
        hits = self._blocks.find_cached(request.blocks, request.token_ids) if request.reads_prefix_cache else []
        num_hit_tokens = len(hits) * self._blocks.block_size
        num_tokens = self._first_chunk(request.num_tokens - num_hit_tokens, num_hit_tokens, draft)
        if num_tokens == 0:
            return Lack.BUDGET
        table = self._seat(request, hits, num_hit_tokens + num_tokens)
        if table is None:
            return Lack.BLOCKS
        self._start_running(request, num_hit_tokens)
        draft.admitted.append(request.as_admitted())
        draft.add(request, num_tokens, table)
        self._advance(request, num_tokens)
        return None

    def _seat(self, request: Request, hits: list[KVCacheBlock], num_tokens: int) -> list[int] | None:
        """A first block table, or None. With nobody running the watermark would only keep blocks from everyone."""
        return self._blocks.allocate(
            request.blocks,
            num_tokens,
            hits=hits,
            num_reserved_tokens=request.num_tokens if self._config.scheduler_reserve_full_isl else 0,
            num_kept_free=self._num_watermark_blocks if self._running else 0,
        )

    def _start_running(self, request: Request, num_hit_tokens: int) -> None:
        self._waiting.remove(request)
        self._running.append(request)
        request.move_to(RequestStatus.RUNNING)
        if self._adapters is not None and request.lora is not None:
            request.lora_slot = self._adapters.acquire(request.lora)
        request.num_computed_tokens = num_hit_tokens
        request.add_event(EventKind.SCHEDULED, self._clock(), self._held_up.reason_of(request))
        if request.num_cached_tokens is None:
            request.num_cached_tokens = num_hit_tokens
            if request.reads_prefix_cache and self._blocks.enable_prefix_caching:
                self._counters.prefix_cache_queries += request.num_tokens
                self._counters.prefix_cache_hits += num_hit_tokens

    def _advance(self, request: Request, num_tokens: int) -> None:
        """The plan is certain to compute these tokens, so requests planned from here on may share their blocks."""
        request.num_computed_tokens += num_tokens
        if request.num_computed_tokens == request.num_tokens + request.num_awaited_tokens:
            request.num_awaited_tokens += 1
        self._publish(request)

    def _publish(self, request: Request) -> None:
        """Only tokens that are known can be looked for, and only blocks that are full."""
        num_tokens, num_known = request.num_computed_tokens, len(request.token_ids)
        if num_tokens > num_known:
            num_tokens = num_known
        if num_tokens >= (request.blocks.num_cached_blocks + 1) * self._blocks.block_size:
            self._blocks.cache_full_blocks(request.blocks, request.token_ids, num_tokens)

    def _longest_chunk(self) -> int:
        """Tokens that one request may take of a step; alone it may take all."""
        threshold = self._config.long_prefill_token_threshold
        if threshold > 0 and self._config.enable_chunked_prefill and len(self._requests) > 1:
            return threshold
        return self._config.max_num_batched_tokens

    def _first_chunk(self, num_missing_tokens: int, num_hit_tokens: int, draft: StepDraft) -> int:
        """Tokens to compute at admission; 0 when the whole is wanted at once and does not fit."""
        if self._config.enable_chunked_prefill:
            return draft.fit(num_hit_tokens, min(num_missing_tokens, self._longest_chunk()))
        return num_missing_tokens if num_missing_tokens <= draft.num_free_tokens else 0

    # --- results ------------------------------------------------------------------------------------

    def _absorb(self, request: Request, sampled: SampledTokens, share: ScheduledRequest) -> TokenDelta | None:
        """One request's share of a result. Whatever is wrong with it ends this request only."""
        error = sampled.error or why_unexpected(request, sampled, share)
        if error is not None:
            self._release(request, RequestStatus.FINISHED_ERROR)
            error, param = constraint_error(request, error, sampled.error_param)
            return make_delta(request, finish_reason=FinishReason.ERROR, error=error, error_param=param)
        prompt_logprobs = take_unsent_prompt_logprobs(request, sampled)
        if not sampled.token_ids:
            return make_delta(request, sampled, prompt_logprobs) if prompt_logprobs else None
        if share.draft_token_ids:
            self._counters.count_draft(share.num_draft_tokens, len(sampled.token_ids) - 1)
        num_taken, stop = append_until_stop(request, sampled.token_ids)
        request.num_awaited_tokens -= 1
        request.num_computed_tokens += num_taken - 1  # drafts that came true; the token after them is not computed
        if request.num_awaited_tokens:
            self._publish(request)  # a step under way computes what has just become known
        cut_to(sampled, num_taken)
        delta = make_delta(request, sampled, prompt_logprobs)
        if stop is not None:
            status, delta.stop_reason = stop
            delta.finish_reason = FINISH_REASONS[status]
            if status is RequestStatus.FINISHED_ERROR:
                delta.error, delta.error_param = constraint_error(request)
            delta.ends_with_text = request.constraint is not None and request.constraint.is_complete
            self._release(request, status)
        return delta

    def _recompute_readers_of_failed(self, flight: Flight, result: StepResult) -> None:
        """Distrust the blocks that failed requests were to write, and preempt who shared them, here or later."""
        answers = zip(flight.tables.values(), result.sampled, strict=True)
        failed = {blocks for blocks, sampled in answers if sampled.error is not None}
        if not failed:
            return
        flights = [flight, *self._flights]
        num_valid_tokens = tables_without_valid_blocks(flights, failed, self._blocks.block_size)
        for blocks, num_tokens in num_valid_tokens.items():
            self._blocks.uncache(blocks, num_tokens)
        for request in reversed(self._running.copy()):
            if request.blocks in num_valid_tokens and request.blocks not in failed:
                self._preempt(request)

    # --- ends and interruptions ---------------------------------------------------------------------

    def _preempt(self, request: Request) -> None:
        """By recomputation: the blocks go, the tokens stay, and the prefix cache gives back what it still has."""
        self._running.remove(request)
        self._let_go(request)
        request.move_to(RequestStatus.PREEMPTED)
        request.num_computed_tokens = request.num_awaited_tokens = 0
        request.num_prompt_logprobs_seen = 0
        request.num_preemptions += 1
        request.waits_since_s = self._clock()
        request.add_event(EventKind.PREEMPTED, request.waits_since_s)
        self._waiting.reinsert(request)
        self._counters.num_preemptions += 1

    def preempt_all(self) -> None:
        """Take every running request out of the batch; each is computed again when it is its turn."""
        for request in reversed(self._running.copy()):
            self._preempt(request)

    def _end(self, request: Request, status: RequestStatus, error: str | None = None, param: str | None = None) -> None:
        """End a request outside of `update`; `param` is its field that the error is about."""
        if request.status is RequestStatus.RUNNING:
            self._running.remove(request)
        elif request.status is not RequestStatus.PREPARING:
            self._waiting.remove(request)
        self._release(request, status)
        last = make_delta(request, finish_reason=FINISH_REASONS[status], error=error, error_param=param)
        self._ended.append(last)

    def _release(self, request: Request, status: RequestStatus) -> None:
        """Forget a request. The runner is told to forget it too, if it knows it."""
        if request.status is RequestStatus.RUNNING:
            self._let_go(request)
        request.move_to(status)
        if self._speculation is not None:
            self._speculation.forget(request)
        del self._requests[request.request_id]

    def _let_go(self, request: Request) -> None:
        """It runs no more: what it holds is free, as soon as no step under way uses it."""
        self._dropped_ids.append(request.request_id)
        holding = Holding(request.blocks, request.lora)
        if not self._flights.keep(request, holding):
            self._give_back(holding)

    def _give_back(self, holding: Holding) -> None:
        self._blocks.free(holding.blocks)
        if self._adapters is not None and holding.lora is not None:
            self._adapters.release(holding.lora)

    # --- adapters -----------------------------------------------------------------------------------

    def place_adapter(self, lora: LoraRequest) -> int | None:
        """A slot to load an adapter into before anyone asks for it; None while requests use all of them."""
        return None if self._adapters is None else self._adapters.place(lora)

    def forget_adapter(self, lora: LoraRequest) -> None:
        """Free its slot, once the requests that run with it have ended."""
        if self._adapters is not None:
            self._adapters.forget(lora)

    # --- for people and tests -----------------------------------------------------------------------

    def stats(self) -> SchedulerStats:
        """State now, and counts since the last call."""
        stats = self._counters.take(
            num_running=len(self._running), num_waiting=len(self._waiting), kv_cache_usage=self._blocks.usage
        )
        stats.num_indexed_blocks = self._blocks.num_indexed_blocks
        num_queued = len(self._running) + len(self._waiting)
        stats.waiting_for = self._held_up.waiting_for(len(self._waiting), len(self._requests) - num_queued)
        if self._adapters is not None:
            stats.running_loras = sorted({lora.lora_name for lora in self._adapters.running})
            waiting = (r for r in self._requests.values() if r.status is not RequestStatus.RUNNING)
            stats.waiting_loras = sorted({r.lora.lora_name for r in waiting if r.lora is not None})
        return stats

    def _not_running(self) -> list[Request]:
        """In the order of their turn; then those whose grammar is being prepared."""
        return [*self._waiting, *(r for r in self._requests.values() if r.status is RequestStatus.PREPARING)]

    def describe(self) -> dict[str, Any]:
        """Requests and blocks in builtin types; no prompt and no token."""
        now_s = self._clock()
        return {
            "running": [describe_request(r, now_s) for r in self._running],
            "waiting": [describe_request(r, now_s, self._held_up.reason_of(r)) for r in self._not_running()],
            "num_blocks": self._blocks.num_blocks,
            "num_free_blocks": self._blocks.num_free_blocks,
            "block_size": self._blocks.block_size,
            "step_time": self._time_budget.describe(),
        }

    def reset_prefix_cache(self) -> bool:
        """Forget all cached prefixes. False, and nothing done, while any request holds blocks."""
        was_reset = self._blocks.reset_prefix_cache()
        self._counters.prefix_cache_was_reset |= was_reset
        return was_reset

    def check_integrity(self) -> None:
        """Raises `EngineError` with the numbers that disagree. Walks all blocks: for idle moments and tests."""
        tables = [request.blocks for request in self._requests.values()]
        self._blocks.check_integrity([*tables, *self._flights.held_tables])
        num_preparing = sum(r.status is RequestStatus.PREPARING for r in self._requests.values())
        num_known, num_queued = len(self._requests), len(self._running) + len(self._waiting) + num_preparing
        if num_known != num_queued:
            raise EngineError(
                f"{num_known} requests are known, but {len(self._running)} run, {len(self._waiting)} wait and "
                f"{num_preparing} are being prepared"
            )
        for request in self._waiting:
            if request.blocks.blocks:
                raise EngineError(f"request {request.request_id} waits with {len(request.blocks.blocks)} blocks")
