"""The scheduler's rules, one by one, on traffic that is small enough to work out by hand."""

from __future__ import annotations

from typing import Any

import pytest
from fake_executor import FakeExecutor

from kvik.config import CacheConfig, SchedulerConfig
from kvik.errors import ConfigError, EngineError, EngineRequestError, InvalidRequestError
from kvik.messages import EventKind, FinishReason, NewRequest, TokenDelta
from kvik.sampling_params import SamplingParams
from kvik.scheduler import Scheduler
from kvik.step import SampledTokens, StepPlan, StepResult

VOCAB_SIZE = 10**5  # no two tokens of a test are equal by chance


class Engine:
    """A scheduler, an executor that checks it, and shares of each step as {request id: tokens}."""

    def __init__(
        self, *, num_blocks: int = 100, max_model_len: int = 400, block_size: int = 4, **scheduler: Any
    ) -> None:
        cache = CacheConfig(block_size=block_size)
        self.scheduler = Scheduler(SchedulerConfig(**scheduler), cache, num_blocks, max_model_len)
        self.executor = FakeExecutor(num_blocks=num_blocks, block_size=block_size, vocab_size=VOCAB_SIZE)
        self.plan: StepPlan | None = None
        self.deltas: list[TokenDelta] = []

    def add(
        self, request_id: str, prompt: int | list[int], *, priority: int = 0, salt: str | None = None, **params: Any
    ) -> None:
        """An integer stands for a prompt of so many tokens that are like no other request's."""
        first_token = 1000 * (1 + sum(map(ord, request_id)))
        token_ids = list(range(first_token, first_token + prompt)) if isinstance(prompt, int) else prompt
        arrival = float(ord(request_id[0]))
        params.setdefault("max_tokens", 50)
        self.scheduler.add(NewRequest(request_id, token_ids, SamplingParams(**params), arrival, None, priority, salt))

    def step(self) -> dict[str, int]:
        self.plan = self.scheduler.schedule()
        self.deltas = self.scheduler.take_ended()
        if self.plan is None:
            return {}
        self.deltas += self.scheduler.update(self.plan, self.executor.execute(self.plan))
        self.scheduler.check_integrity()
        return {s.request_id: s.num_scheduled_tokens for s in self.plan.scheduled}

    def finish_all(self) -> dict[str, TokenDelta]:
        """The last delta of each request that was still open."""
        last = {}
        while self.scheduler.has_work:
            self.step()
            last.update({d.request_id: d for d in self.deltas if d.finish_reason is not None})
        return last


def test_decoding_goes_on_while_a_long_prompt_is_computed_in_chunks() -> None:
    engine = Engine(max_num_batched_tokens=32)
    engine.add("a", 10)
    assert engine.step() == {"a": 10}
    engine.add("b", 60)
    engine.add("c", 5)
    assert engine.step() == {"a": 1, "b": 31}
    assert engine.step() == {"a": 1, "b": 29, "c": 2}
    assert engine.step() == {"a": 1, "b": 1, "c": 3}


def test_only_a_finished_prompt_brings_a_token() -> None:
    engine = Engine(max_num_batched_tokens=8)
    engine.add("a", 12)
    engine.step()
    assert engine.deltas == []
    engine.step()
    assert [len(d.new_token_ids) for d in engine.deltas] == [1]


def test_without_chunks_a_prompt_waits_for_a_step_of_its_own() -> None:
    engine = Engine(max_num_batched_tokens=32, enable_chunked_prefill=False)
    engine.add("a", 20)
    engine.add("b", 20)
    engine.add("c", 5)  # would fit, but must not overtake b
    assert engine.step() == {"a": 20}
    assert engine.step() == {"a": 1, "b": 20, "c": 5}


def test_without_chunks_a_prompt_beyond_any_step_ends_with_an_error_of_its_own() -> None:
    engine = Engine(max_num_batched_tokens=32, enable_chunked_prefill=False)
    engine.add("a", 33)
    engine.add("b", 5)
    assert engine.step() == {"b": 5}
    assert engine.deltas[0].request_id == "a"
    assert engine.deltas[0].finish_reason is FinishReason.ERROR
    assert "--max-num-batched-tokens to at least 33" in (engine.deltas[0].error or "")


def test_the_long_prefill_threshold_holds_only_in_company() -> None:
    engine = Engine(max_num_batched_tokens=32, long_prefill_token_threshold=6)
    engine.add("a", 80)
    assert engine.step() == {"a": 32}
    engine.add("b", 10)
    assert engine.step() == {"a": 6, "b": 6}
    assert engine.step() == {"a": 6, "b": 4}


def test_no_more_requests_run_than_there_are_seats() -> None:
    engine = Engine(max_num_seqs=2)
    for request_id in "abc":
        engine.add(request_id, 5, max_tokens=2)
    assert engine.step() == {"a": 5, "b": 5}
    assert engine.step() == {"a": 1, "b": 1}
    assert engine.step() == {"c": 5}


def test_fcfs_ignores_priority_and_priority_ignores_arrival() -> None:
    order = {}
    for policy in ("fcfs", "priority"):
        engine = Engine(max_num_seqs=1, policy=policy)
        for request_id, priority in (("a", 2), ("b", 1), ("c", 1)):
            engine.add(request_id, 5, priority=priority, max_tokens=1)
        order[policy] = [next(iter(engine.step())) for _ in range(3)]
    assert order == {"fcfs": ["a", "b", "c"], "priority": ["b", "c", "a"]}


def test_blocks_run_out_and_the_last_ones_are_preempted_then_resumed_in_order() -> None:
    engine = Engine(num_blocks=5)
    for request_id, num_tokens in (("a", 8), ("b", 8), ("c", 4)):
        engine.add(request_id, num_tokens, max_tokens=2)
    assert engine.step() == {"a": 8, "b": 8, "c": 4}  # all 5 blocks
    assert engine.step() == {"a": 1}  # a takes c's block; b finds none left but its own
    assert engine.scheduler.stats().num_preemptions == 2
    assert engine.plan is not None
    assert engine.plan.dropped_request_ids == ["c", "b"]
    assert engine.step() == {"b": 1, "c": 1 + 4}  # a is done; b's prompt is still cached, c's block went to a
    assert engine.plan.dropped_request_ids == ["a"]
    resumed = engine.plan.admitted[0]
    assert (resumed.request_id, len(resumed.token_ids), resumed.num_prompt_tokens) == ("b", 9, 8)
    assert [d.finish_reason for d in engine.deltas] == [FinishReason.LENGTH] * 2
    assert [e.kind for e in engine.deltas[0].events] == [EventKind.PREEMPTED, EventKind.SCHEDULED]


def test_a_share_that_is_lost_within_its_step_leaves_no_trace() -> None:
    """ "a" is planned to fill two blocks, then "b", which matters more, takes one of them. Neither is ever written."""
    engine = Engine(
        num_blocks=8, block_size=1, policy="priority", max_num_batched_tokens=3, long_prefill_token_threshold=2
    )
    engine.add("a", 8, priority=5, max_tokens=1)
    assert engine.step() == {"a": 3}
    engine.add("b", 1, priority=1, max_tokens=2)
    assert engine.step() == {"a": 2, "b": 1}
    assert engine.step() == {"b": 1}
    assert engine.scheduler.stats().num_preemptions == 1
    assert engine.step() == {"a": 3}  # the 5 tokens that were computed are found again, not 6
    assert engine.deltas[0].finish_reason is FinishReason.LENGTH


def test_nothing_is_admitted_in_a_step_that_preempted() -> None:
    engine = Engine(num_blocks=4, policy="priority")
    engine.add("a", 8, priority=1, max_tokens=9)
    engine.add("b", 8, priority=9, max_tokens=9)
    engine.step()
    engine.add("c", 1, priority=5, max_tokens=1)
    assert engine.step() == {"a": 1}  # one of b's two blocks would be free for c
    assert engine.step() == {"a": 1, "c": 1}


def test_a_request_that_outgrows_the_cache_ends_with_an_error_and_the_others_go_on() -> None:
    engine = Engine(num_blocks=4)
    engine.add("a", 10, max_tokens=50)
    engine.add("b", 17, max_tokens=5)  # too large from the start
    engine.add("c", 4, max_tokens=3)
    last = engine.finish_all()
    assert {r: d.finish_reason for r, d in last.items()} == {
        "a": FinishReason.ERROR,
        "b": FinishReason.ERROR,
        "c": FinishReason.LENGTH,
    }
    assert last["b"].error is not None
    assert last["b"].error.startswith("17 tokens need 5 KV blocks of 4 tokens, but the cache has 4 in all")


def test_a_prompt_is_admitted_only_when_all_of_it_has_room() -> None:
    for reserve, expected in ((True, {"a": 1}), (False, {"a": 1, "b": 3})):
        engine = Engine(num_blocks=5, max_num_batched_tokens=4, scheduler_reserve_full_isl=reserve)
        engine.add("a", 4)
        engine.step()
        engine.add("b", 16)
        assert engine.step() == expected


def test_the_watermark_keeps_blocks_free_at_admission_but_starves_nobody() -> None:
    engine = Engine(num_blocks=10, watermark=0.3)
    engine.add("a", 36, max_tokens=1)  # 9 blocks: more than 10 - 3, but nobody else runs
    assert engine.step() == {"a": 36}
    engine.add("d", 12, max_tokens=8)
    engine.add("b", 20, max_tokens=1)
    assert engine.step() == {"d": 12}  # 7 are free, b wants 5 of them: 2 would stay, not 3
    engine.add("c", 4, max_tokens=1)
    assert "c" not in engine.step()  # no overtaking


# --- the prefix cache -------------------------------------------------------------------------------


def test_siblings_of_one_step_share_their_prompt() -> None:
    engine = Engine()
    prompt = list(range(100, 114))
    for request_id in "abc":
        engine.add(request_id, prompt, max_tokens=1)
    assert engine.step() == {"a": 14, "b": 2, "c": 2}
    assert [d.num_cached_tokens for d in engine.deltas] == [0, 12, 12]
    stats = engine.scheduler.stats()
    assert (stats.prefix_cache_queries, stats.prefix_cache_hits) == (42, 24)


def test_the_last_token_of_a_prompt_is_always_computed() -> None:
    engine = Engine()
    for _ in range(2):
        engine.add("a", list(range(16)), max_tokens=1)
        engine.finish_all()
    assert engine.plan is not None
    assert engine.plan.scheduled[0].num_computed_tokens == 12


def test_answers_are_cached_too() -> None:
    engine = Engine()
    engine.add("a", 6, max_tokens=7)
    tokens: list[int] = []
    while engine.scheduler.has_work:
        engine.step()
        tokens += engine.deltas[0].new_token_ids
    prompt = list(range(1000 * (1 + ord("a")), 1000 * (1 + ord("a")) + 6))
    engine.add("b", prompt + tokens, max_tokens=1)
    engine.step()
    assert engine.deltas[0].num_cached_tokens == 12  # of 13; the last of them was never computed


def test_salts_keep_prefixes_apart() -> None:
    engine = Engine()
    prompt = list(range(50, 63))
    hits = []
    for salt in (None, "x", "y", "x", None):
        engine.add("a", prompt, salt=salt, max_tokens=1)
        engine.step()
        hits.append(engine.deltas[0].num_cached_tokens)
    assert hits == [0, 0, 0, 12, 12]


@pytest.mark.parametrize("params", [{"prompt_logprobs": 0}, {"skip_reading_prefix_cache": True}])
def test_who_must_not_read_the_cache_does_not(params: dict[str, Any]) -> None:
    engine = Engine()
    prompt = list(range(50, 63))
    engine.add("a", prompt, max_tokens=1)
    engine.step()
    engine.add("b", prompt, max_tokens=1, **params)
    assert engine.step() == {"b": 13}
    assert engine.scheduler.stats().prefix_cache_queries == 13


def test_prompt_logprobs_outrank_the_wish_for_the_cache() -> None:
    engine = Engine()
    for request_id in "ab":
        engine.add(request_id, list(range(13)), max_tokens=1, prompt_logprobs=0, skip_reading_prefix_cache=False)
        assert engine.step() == {request_id: 13}


def test_reset_waits_for_idle() -> None:
    engine = Engine()
    engine.add("a", 9, max_tokens=2)
    engine.step()
    assert not engine.scheduler.reset_prefix_cache()
    engine.finish_all()
    assert engine.scheduler.reset_prefix_cache()
    assert engine.scheduler.stats().prefix_cache_was_reset
    assert not engine.scheduler.stats().prefix_cache_was_reset
    engine.add("a", 9, max_tokens=1)
    assert engine.step() == {"a": 9}


def test_a_failed_request_takes_its_readers_blocks_along_but_not_their_answers() -> None:
    engine = Engine()
    engine.executor.failing = {"a": 3}
    prompt = list(range(13))
    for request_id in "ab":
        engine.add(request_id, prompt, max_tokens=2)
    assert engine.step() == {"a": 13, "b": 1}
    assert [(d.request_id, d.error) for d in engine.deltas] == [("a", "failed on purpose")]
    assert engine.step() == {"b": 13}
    engine.add("c", prompt, max_tokens=1)
    assert engine.step() == {"b": 1, "c": 1}


# --- ends -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_steps", [0, 1, 2])
def test_abort_frees_blocks_at_once_in_every_state(num_steps: int) -> None:
    """ "b" waits, runs, or was preempted."""
    engine = Engine(num_blocks=4)
    engine.add("a", 8)
    engine.add("b", 8)
    for _ in range(num_steps):
        engine.step()
    engine.scheduler.abort(["b", "nobody"])
    engine.scheduler.check_integrity()
    assert engine.scheduler.describe()["num_free_blocks"] == {0: 4, 1: 2, 2: 1}[num_steps]
    ended = engine.scheduler.take_ended()
    assert [(d.request_id, d.finish_reason) for d in ended] == [("b", FinishReason.ABORT)]
    engine.step()
    assert engine.plan is not None
    assert engine.plan.dropped_request_ids == {0: [], 1: ["b"], 2: []}[num_steps]


def test_impossible_requests_are_refused_at_the_door() -> None:
    engine = Engine(max_model_len=10)
    with pytest.raises(InvalidRequestError, match="at least 1 token"):
        engine.add("a", 0)
    with pytest.raises(InvalidRequestError, match=r"has 10 tokens; with a context of 10 tokens .* may have 9"):
        engine.add("a", 10)
    engine.add("a", 9)
    with pytest.raises(EngineRequestError, match="'a' is in use"):
        engine.add("a", 3)


def test_the_context_ends_an_answer_without_max_tokens() -> None:
    engine = Engine(max_model_len=10)
    engine.add("a", 7, max_tokens=None)
    assert engine.finish_all()["a"].finish_reason is FinishReason.LENGTH
    assert engine.executor.num_steps == 3


@pytest.mark.parametrize(
    ("sampled", "complaint"),
    [([], "0 tokens instead of 1 with 5 of 5"), ([1, 2], "2 tokens instead of 1")],
)
def test_a_wrong_number_of_tokens_ends_that_request_only(sampled: list[int], complaint: str) -> None:
    engine = Engine()
    engine.add("a", 5)
    engine.add("b", 5)
    plan = engine.scheduler.schedule()
    assert plan is not None
    deltas = engine.scheduler.update(plan, StepResult([SampledTokens("a", sampled), SampledTokens("b", [7])]))
    assert complaint in (deltas[0].error or "")
    assert deltas[1].new_token_ids == [7]


def test_a_result_for_other_requests_is_the_executors_fault() -> None:
    engine = Engine()
    engine.add("a", 5)
    plan = engine.scheduler.schedule()
    assert plan is not None
    with pytest.raises(EngineError, match="not for those of the plan"):
        engine.scheduler.update(plan, StepResult([]))


def test_describe_shows_state_but_no_token() -> None:
    engine = Engine(max_num_seqs=1)
    engine.add("a", 5, max_tokens=9)
    engine.add("b", 6, max_tokens=9)
    engine.step()
    described = engine.scheduler.describe()
    assert [(r["request_id"], r["status"], r["num_blocks"]) for r in described["running"]] == [("a", "running", 2)]
    assert [(r["request_id"], r["num_prompt_tokens"]) for r in described["waiting"]] == [("b", 6)]
    assert (described["num_blocks"], described["num_free_blocks"]) == (100, 98)


def test_unknown_choices_are_named() -> None:
    with pytest.raises(ConfigError, match="must be 'fcfs' or 'priority', got 'lifo'"):
        Scheduler(SchedulerConfig(policy="lifo"), CacheConfig(), 4, 10)
    with pytest.raises(ConfigError, match="--prefix-caching-hash-algo 'xxhash' is not available"):
        Scheduler(SchedulerConfig(), CacheConfig(prefix_caching_hash_algo="xxhash"), 4, 10)
