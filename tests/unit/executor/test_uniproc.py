from __future__ import annotations

import pytest

from kvik.config import CacheConfig, DeviceConfig, EngineConfig, LoadConfig, ModelConfig
from kvik.executor.device_choice import num_threads
from kvik.executor.uniproc import UniProcExecutor
from kvik.modelfile.spec import ModelSpec, RopeSpec
from kvik.platforms import cpu
from kvik.runner.warm_up import warm_up_plan
from kvik.step import StepPlan
from kvik.telemetry.phases import PhaseTimer

SPEC = ModelSpec("LlamaForCausalLM", 32, 32, 32, 1, 2, 1, 16, 64, 1e-5, RopeSpec(10000.0))


def test_a_step_from_start_to_shutdown() -> None:
    config = EngineConfig(
        model=ModelConfig(model="dummy", spec=SPEC, tokenizer="", served_model_names=("dummy",)),
        cache=CacheConfig(kv_cache_memory_bytes=1 << 20),
        load=LoadConfig(load_format="dummy"),
        device=DeviceConfig(cpu_threads=1),
    )
    executor = UniProcExecutor(config)
    with pytest.raises(AssertionError):
        executor.execute(StepPlan([], [], []))
    facts = executor.start(PhaseTimer("test"))
    assert facts.num_threads == 1
    (sampled,) = executor.execute(warm_up_plan(facts.block_size, facts.max_model_len)).sampled
    assert len(sampled.token_ids) == 1
    executor.shutdown()
    with pytest.raises(AssertionError):
        executor.execute(StepPlan([], [], []))


def test_more_threads_than_cores_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    cores = cpu.num_cores()
    assert num_threads(None) == cores
    assert num_threads(1) == 1
    assert not caplog.records
    assert num_threads(cores + 1) == cores + 1
    assert f"--cpu-threads {cores + 1} is more than the {cores} core(s)" in caplog.text
