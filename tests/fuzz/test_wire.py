"""Broken frames on both sides of the wall: a message of the known types, or a WireError."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from kvik.config import EngineConfig, ModelConfig
from kvik.errors import WireError
from kvik.messages import (
    Abort,
    EngineFacts,
    EngineFailed,
    FinishReason,
    Hello,
    LoraRequest,
    NewRequest,
    Phase,
    Ready,
    Resumed,
    SchedulerStats,
    Shutdown,
    Start,
    StartFailed,
    StartupProgress,
    StepOutputs,
    TokenDelta,
    TokenLogprobs,
    UtilityCall,
    UtilityResult,
)
from kvik.modelfile.spec import ModelSpec, RopeSpec
from kvik.sampling_params import SamplingParams
from kvik.structured_outputs import StructuredOutputs
from kvik.wire.codec import decode_from_engine, decode_to_engine, encode
from support.fuzzing import LONG_RUNS, SHORT_RUNS, Bytes, fuzz

SPEC = ModelSpec("LlamaForCausalLM", 9, 8, 8, 1, 2, 2, 4, 16, 1e-5, RopeSpec(1e4))
PARAMS = SamplingParams(temperature=0.5, seed=3, stop=["x"], logit_bias={3: 1.0}, logprobs=2, max_tokens=9)
TO_ENGINE: list[Any] = [
    NewRequest("r1", [1, 2, 300], PARAMS, 1.5, 2, 0, "salt", LoraRequest("a", 1, "/a"), Resumed([5, 6], 1)),
    NewRequest("r2", [], SamplingParams(structured_outputs=StructuredOutputs(json={"type": "object"})), 0.0),
    Abort(["r1", "r2"]),
    UtilityCall(7, "sleep", [1, {"a": [None, True]}]),
    Start(EngineConfig(model=ModelConfig("/m", SPEC, "m", ("m",)))),
    Shutdown(),
]
FACTS = EngineFacts("cpu", "avx2", 2, 10, 10, 4, 16, 9)
STATS = SchedulerStats(1, 2, 0.5, 3, 4, 5)
DELTA = TokenDelta("r1", [5], [TokenLogprobs([5], [-0.1], [0])], None, FinishReason.STOP, "x", None, 3, [])
FROM_ENGINE: list[Any] = [
    StepOutputs([DELTA, TokenDelta("r2", [6])], 2.5, STATS),
    Ready(FACTS, [Phase("load", "engine", 0.0, 1.0, 5)]),
    StartupProgress(Phase("load", "engine", 0.0, 1.0, 5)),
    UtilityResult(7, {"a": [1, b"x", None]}, None),
    StartFailed("ConfigError", "no"),
    EngineFailed("boom"),
    Hello(5),
]
SIDES: dict[str, tuple[list[Any], Callable[[bytes], Any]]] = {
    "to_engine": (TO_ENGINE, decode_to_engine),
    "from_engine": (FROM_ENGINE, decode_from_engine),
}


def run(side: str, num_runs: int) -> str:
    messages, decode = SIDES[side]
    inputs = Bytes([encode(message) for message in messages], random.Random(6))
    kinds = {type(message) for message in messages}

    def read() -> None:
        message = decode(inputs.next())
        assert type(message) in kinds
        encode(message)

    return fuzz(read, num_runs, (WireError,))


@pytest.mark.parametrize("side", SIDES)
def test_the_seeds_are_sound(side: str) -> None:
    messages, decode = SIDES[side]
    assert [decode(encode(message)) for message in messages] == messages


@pytest.mark.parametrize("side", SIDES)
def test_some_broken_frames(side: str) -> None:
    run(side, SHORT_RUNS)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("side", SIDES)
def test_many_broken_frames(side: str) -> None:
    print(f"wire, {side}: {run(side, LONG_RUNS)}")
