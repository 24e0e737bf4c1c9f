"""Workers that share a model, as real processes on gloo: the tokens of one process, and what happens when one ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from kvik.config import (
    CacheConfig,
    DeviceConfig,
    EngineConfig,
    LoadConfig,
    ModelConfig,
    ParallelConfig,
    SchedulerConfig,
)
from kvik.config.compilation import ATTENTION_OP, CompilationConfig
from kvik.config.lora import LoraConfig
from kvik.errors import EngineError, ModelFileError
from kvik.executor.base import Executor
from kvik.executor.multiproc import MultiProcExecutor
from kvik.executor.uniproc import UniProcExecutor
from kvik.messages import LoraRequest
from kvik.modelfile.spec import ModelSpec
from kvik.sampling_params import SamplingParams
from kvik.step import AdmittedRequest, ScheduledRequest, StepPlan
from kvik.telemetry.phases import PhaseTimer
from support.adapters import write_adapter
from support.tiny_models import SPECS

PROMPTS = {"greedy": [3, 14, 15, 9, 26, 5], "seeded": [8, 32, 30], "scored": [6, 26, 4, 3, 27]}
WAYS = {
    "greedy": SamplingParams(temperature=0),
    "seeded": SamplingParams(temperature=1.0, top_p=0.9, seed=7),
    "scored": SamplingParams(temperature=0, logprobs=2, repetition_penalty=1.2),
}
NUM_STEPS = 4


def config(spec: ModelSpec, num_workers: int, model: str = "dummy") -> EngineConfig:
    return EngineConfig(
        model=ModelConfig(model, spec, "", ("tiny",), dtype="float32", matmul_precision="highest"),
        cache=CacheConfig(num_blocks_override=12),
        scheduler=SchedulerConfig(max_num_batched_tokens=16, max_num_seqs=4),
        load=LoadConfig(load_format="dummy" if model == "dummy" else "auto", use_tqdm_on_load=False),
        device=DeviceConfig("cpu", 2),
        lora=LoraConfig(max_lora_rank=8, dtype="float32"),
        parallel=ParallelConfig(num_workers, "uni" if num_workers == 1 else "mp"),
    )


@contextmanager
def started(executor: Executor) -> Iterator[Executor]:
    try:
        executor.start(PhaseTimer("test"))
        yield executor
    finally:
        executor.shutdown()


def tokens_of(
    executor: Executor, prefix: str = "", before: str | None = None, adapter: Path | None = None
) -> dict[str, list[int]]:
    """Three requests side by side, the first with an adapter. `before`: the prefix of those that ran before them."""
    tokens: dict[str, list[int]] = {name: [] for name in PROMPTS}
    new = [AdmittedRequest(prefix + name, ids, len(ids), WAYS[name], None) for name, ids in PROMPTS.items()]
    if adapter is not None:
        new[0].lora, new[0].lora_slot = LoraRequest("adapter", 1, str(adapter)), 0
    first = [ScheduledRequest(r.request_id, 0, len(r.token_ids), [i + 1]) for i, r in enumerate(new)]
    plans = [StepPlan(new, first, [] if before is None else [before + name for name in PROMPTS])]
    for step in range(NUM_STEPS):
        plans.append(StepPlan([], [ScheduledRequest(r.request_id, len(r.token_ids) + step, 1, []) for r in new], []))
    for plan in plans:
        for sampled in executor.submit(plan).result().sampled:
            assert sampled.error is None
            tokens[sampled.request_id.removeprefix(prefix)] += sampled.token_ids
    return tokens


def shared(architecture: str, num_workers: int) -> tuple[ModelSpec, int]:
    return replace(SPECS[architecture], architecture=architecture), num_workers


@pytest.mark.parametrize(
    ("spec", "num_workers"),
    [shared("Gemma3ForCausalLM", 2), shared("Qwen3ForCausalLM", 4), shared("Qwen2ForCausalLM", 2)],
    ids=["tied and sliding", "one head of keys for four", "biases"],
)
def test_workers_give_the_tokens_of_one_process(spec: ModelSpec, num_workers: int, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path, spec, size=8.0)
    with started(UniProcExecutor(config(spec, 1))) as alone:
        plain = tokens_of(alone)
        wanted = tokens_of(alone, "adapted ", before="", adapter=adapter)
    assert wanted["greedy"] != plain["greedy"]
    with started(MultiProcExecutor(config(spec, num_workers))) as workers:
        assert tokens_of(workers) == plain
        assert tokens_of(workers, "adapted ", before="", adapter=adapter) == wanted


def test_a_compiled_pass_has_the_sums_of_all_workers(capfd: pytest.CaptureFixture[str]) -> None:
    """Each worker compiles its own part; between them the ops are those of the group."""
    spec = SPECS["LlamaForCausalLM"]
    with started(UniProcExecutor(config(spec, 1))) as alone:
        wanted = tokens_of(alone)
    compilation = CompilationConfig(mode="VLLM_COMPILE", splitting_ops=(ATTENTION_OP,), backend="eager")
    with started(MultiProcExecutor(replace(config(spec, 2), compilation=compilation))) as workers:
        assert tokens_of(workers) == wanted
    assert capfd.readouterr().err.count("torch.compile took") == 2


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system has no such signal")
def test_sleep_and_a_worker_that_is_killed() -> None:
    spec = replace(SPECS["LlamaForCausalLM"], vocab_size=33)  # the last worker has less of it
    with started(MultiProcExecutor(config(spec, 2))) as workers:
        assert isinstance(workers, MultiProcExecutor)
        first = tokens_of(workers)
        assert workers.release("kv_cache") > 0
        workers.restore("kv_cache")
        assert tokens_of(workers, "again ", before="") == first
        pids = workers.worker_pids
        os.kill(pids[1], signal.SIGKILL)
        for missed in (workers.use_idle_time, lambda: tokens_of(workers, "lost ", before="again ")):
            with pytest.raises(EngineError, match=rf"Worker_TP1 \(pid {pids[1]}\) has ended: SIGKILL"):
                missed()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids), "shutdown has waited for all"


def test_a_start_that_fails_in_a_worker_says_why(tmp_path: Path) -> None:
    executor = MultiProcExecutor(config(SPECS["LlamaForCausalLM"], 2, str(tmp_path)))
    try:
        with pytest.raises(ModelFileError, match=str(tmp_path)):
            executor.start(PhaseTimer("test"))
    finally:
        executor.shutdown()
