from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from fakes.engine_config import engine_config, engine_facts
from kvik.config import EngineConfig
from kvik.config.recovery import RecoveryConfig
from kvik.engine_client.core_client import EngineCoreClient
from kvik.engine_client.supervisor import RESTART_WINDOW_S, EngineSupervisor
from kvik.errors import EngineDeadError, EngineError, InsufficientMemoryError
from kvik.messages import Abort, Ready, UtilityCall


class Process:
    """An engine process that starts, or not, and takes no message once it is dead."""

    def __init__(self, pid: int, start_error: Exception | None = None) -> None:
        self.pid = pid
        self.start_error = start_error
        self.config: EngineConfig | None = None
        self.is_dead = False
        self.is_shut_down = False

    async def start(self, config: EngineConfig, on_phase: Any = None) -> Ready:
        self.config = config
        if self.start_error is not None:
            raise self.start_error
        return Ready(engine_facts(), [])

    def send(self, message: object) -> None:
        if self.is_dead:
            raise EngineDeadError("gone")

    async def shutdown(self) -> None:
        self.is_shut_down = True


class Workshop:
    """Makes processes; `errors` are those of their starts, in order."""

    def __init__(self, most: int, *errors: Exception | None) -> None:
        self.now_s = 0.0
        self.errors = list(errors)
        self.made: list[Process] = [Process(0)]
        first = cast(EngineCoreClient, self.made[0])
        config = RecoveryConfig(max_engine_restarts=most)
        self.supervisor = EngineSupervisor(first, config, self.spawn, lambda: self.now_s)
        asyncio.run(self.supervisor.start(engine_config()))

    def spawn(self) -> EngineCoreClient:
        self.made.append(Process(len(self.made), self.errors.pop(0) if self.errors else None))
        return cast(EngineCoreClient, self.made[-1])

    def restart(self) -> None:
        asyncio.run(self.supervisor.restart("died"))


def test_the_next_engine_has_what_the_first_one_measured() -> None:
    shop = Workshop(3)
    shop.restart()
    first, second = shop.made
    assert first.is_shut_down
    assert shop.supervisor.pid == second.pid
    assert second.config is not None
    assert second.config.cache.num_blocks_override == engine_facts().num_blocks
    assert second.config.model.max_model_len == engine_facts().max_model_len


def test_too_many_in_the_window() -> None:
    shop = Workshop(2)
    shop.restart()
    shop.restart()
    assert not shop.supervisor.may_restart
    with pytest.raises(EngineDeadError, match=r"died; .* 2 times in 10 minutes, .* --max-engine-restarts"):
        shop.restart()
    shop.now_s += RESTART_WINDOW_S + 1
    shop.restart()
    assert len(shop.made) == 4


def test_none_are_allowed() -> None:
    with pytest.raises(EngineDeadError, match=r"^died$"):
        Workshop(0).restart()


def test_a_start_that_fails_is_tried_again() -> None:
    shop = Workshop(3, InsufficientMemoryError("not yet"), EngineError("odd"), None)
    shop.restart()
    assert len(shop.made) == 4
    assert [p.is_shut_down for p in shop.made] == [True, True, True, False]


def test_starts_that_fail_for_good() -> None:
    with pytest.raises(EngineDeadError, match="still too small; the engine has been restarted 2 times"):
        Workshop(2, EngineError("a"), InsufficientMemoryError("still too small")).restart()


def test_what_a_dead_engine_is_told() -> None:
    shop = Workshop(1)
    shop.made[0].is_dead = True
    shop.supervisor.send(Abort(["r"]))  # the next one never hears of the request
    with pytest.raises(EngineDeadError):
        shop.supervisor.send(UtilityCall(1, "pause"))
    shop.restart()
    shop.made[1].is_dead = True
    with pytest.raises(EngineDeadError):
        shop.supervisor.send(Abort(["r"]))


def test_no_restart_once_the_end_has_begun() -> None:
    shop = Workshop(3)
    asyncio.run(shop.supervisor.shutdown())
    with pytest.raises(EngineDeadError):
        shop.restart()
    assert len(shop.made) == 1
