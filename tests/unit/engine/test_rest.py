"""Pauses and sleep: nothing is computed, memory goes and comes back, and no token changes."""

from __future__ import annotations

import pytest
from engine_steps import deltas_of, request, run, started
from fake_executor import FakeExecutor, fake_token

from kvik.errors import EngineError, ModelFileError
from kvik.messages import FinishReason


def test_a_pause_stops_steps_and_loses_nothing() -> None:
    core = started()
    core.add_request(request("a"))
    first = core.step()
    core.utility("pause", [])
    assert not core.has_work
    assert core.step() is None
    core.add_request(request("late"))
    assert core.step() is None
    core.utility("resume", [])
    steps = [step for step in (first, *run(core)) if step]
    for request_id in ("a", "late"):
        tokens = [t for d in deltas_of(steps, request_id) for t in d.new_token_ids]
        assert tokens == [fake_token(request_id, 5 + i, 50) for i in range(3)]


def test_last_words_are_heard_in_a_pause() -> None:
    core = started()
    core.add_request(request("a"))
    core.utility("pause", [])
    core.abort(["a"])
    outputs = core.step()
    assert outputs is not None
    assert [d.finish_reason for d in outputs.deltas] == [FinishReason.ABORT]
    assert not core.has_work


@pytest.mark.parametrize(("level", "absent"), [(0, set()), (1, {"kv_cache"}), (2, {"kv_cache", "weights"})])
def test_running_requests_outlive_a_sleep(level: int, absent: set[str]) -> None:
    executor = FakeExecutor()
    core = started(executor)
    core.add_request(request("a", 9, 6))
    before = [core.step(), core.step()]
    assert core.utility("sleep", [level]) is True
    assert executor.absent == absent
    assert core.utility("is_sleeping", []) is True
    assert not core.has_work
    core.utility("check_integrity", [])
    assert core.utility("wake_up", []) is False
    assert executor.absent == set()
    steps = [step for step in (*before, *run(core)) if step]
    tokens = [t for d in deltas_of(steps, "a") for t in d.new_token_ids]
    assert tokens == [fake_token("a", 9 + i, 50) for i in range(6)]


@pytest.mark.parametrize(("rest", "rise"), [("sleep", "wake_up"), ("pause", "resume")])
def test_at_rest_nothing_is_done_in_idle_moments(rest: str, rise: str) -> None:
    """What would be computed with may be gone, even where something else (a signal) ends the wait."""
    executor = FakeExecutor()
    core = started(executor)
    executor.idle_pieces = 3
    core.utility(rest, [2] if rest == "sleep" else [])
    assert core.patience_s is None
    core.use_idle_time()
    assert executor.idle_pieces == 3
    core.utility(rise, [])
    assert core.patience_s is not None
    while core.patience_s is not None:
        core.use_idle_time()
    assert executor.idle_pieces == 0


def test_a_sleep_forgets_prefixes() -> None:
    core = started()
    core.add_request(request("a", 12))
    run(core)
    core.utility("sleep", [1])
    core.utility("wake_up", [None])
    core.add_request(request("b", 12))
    assert run(core)[0].deltas[0].num_cached_tokens == 0


def test_waking_up_in_parts() -> None:
    executor = FakeExecutor()
    core = started(executor)
    core.utility("sleep", [2])
    assert core.utility("wake_up", [["weights"]]) is True
    assert executor.absent == {"kv_cache"}
    core.add_request(request("a"))
    assert not core.has_work
    assert core.utility("wake_up", [["kv_cache"]]) is False
    assert len(run(core)) == 3


def test_a_checkpoint_that_is_gone_leaves_the_engine_asleep() -> None:
    executor = FakeExecutor()
    core = started(executor)
    core.utility("sleep", [2])
    executor.restore_error = ModelFileError("gone")
    with pytest.raises(EngineError, match="sleeps on and may be woken again: gone"):
        core.utility("wake_up", [])
    assert core.utility("is_sleeping", []) is True
    executor.restore_error = None
    assert core.utility("wake_up", []) is False


@pytest.mark.parametrize(
    ("method", "args", "complaint"), [("sleep", [3], "0, 1 or 2"), ("wake_up", [["all"]], "'all'")]
)
def test_wrong_levels_and_tags_are_named(method: str, args: list[object], complaint: str) -> None:
    with pytest.raises(EngineError, match=complaint):
        started().utility(method, args)


def test_sleep_and_pause_do_not_end_each_other() -> None:
    core = started()
    core.utility("pause", [])
    core.utility("sleep", [1])
    core.utility("wake_up", [])
    core.add_request(request("a"))
    assert not core.has_work
    core.utility("resume", [])
    assert core.has_work


def test_prefixes_can_be_forgotten_under_running_requests() -> None:
    core = started()
    core.add_request(request("a", 9, 6))
    before = [core.step(), core.step()]
    assert core.utility("reset_prefix_cache", [False]) is False
    assert core.utility("reset_prefix_cache", [True]) is True
    steps = [step for step in (*before, *run(core)) if step]
    assert [t for d in deltas_of(steps, "a") for t in d.new_token_ids] == [fake_token("a", 9 + i, 50) for i in range(6)]


def test_the_memory_of_the_cache_is_released_without_sleep() -> None:
    executor = FakeExecutor()
    core = started(executor)
    core.add_request(request("a", 9, 6))
    before = [core.step()]
    assert core.utility("release_kv_cache", []) == 1 << 20
    steps = [step for step in (*before, *run(core)) if step]
    assert [t for d in deltas_of(steps, "a") for t in d.new_token_ids] == [fake_token("a", 9 + i, 50) for i in range(6)]
