"""The GPU's runner on a fake GPU, with the real Triton kernels in the interpreter: the tokens of the CPU's runner."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from fakes.fake_gpu import FakeGpu
from kvik.compilation import contest
from kvik.config import CacheConfig, DeviceConfig, EngineConfig, LoadConfig, ModelConfig, SchedulerConfig
from kvik.config.attention import AttentionConfig
from kvik.config.compilation import ATTENTION_OP, CompilationConfig
from kvik.config.resolve import KV_CACHE_DTYPES
from kvik.errors import ConfigError, InsufficientMemoryError
from kvik.kernels import launch
from kvik.messages import EngineFacts
from kvik.modelfile.spec import ModelSpec, RopeSpec
from kvik.runner import compile_choice
from kvik.runner.compiled_model import BackgroundCompilation
from kvik.runner.cpu_device import CpuDevice
from kvik.runner.cuda_graphs import GraphedForward, GraphKey
from kvik.runner.device import Device
from kvik.runner.gpu_device import GpuDevice
from kvik.runner.model_runner import ModelRunner
from kvik.sampling_params import SamplingParams
from kvik.step import AdmittedRequest, MemoryPart, ScheduledRequest, StepPlan
from kvik.telemetry.phases import PhaseTimer
from support.triton_interpreter import standing_in_for_gpu

SPEC = ModelSpec(
    architecture="LlamaForCausalLM",
    vocab_size=97,
    hidden_size=32,
    intermediate_size=48,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    max_position_embeddings=64,
    rms_norm_eps=1e-5,
    rope=RopeSpec(theta=10000.0),
    tie_word_embeddings=True,
)
MIB = 1 << 20
SIZES = (4,)
"""Of graphs: few, for the interpreter takes its time."""
PROMPTS = [[3, 14, 15, 92, 65, 35], [89, 79, 32], [38, 46, 26, 43, 38, 32, 79, 50, 28, 84, 19]]


def config(**cache: Any) -> EngineConfig:
    return EngineConfig(
        model=ModelConfig("dummy", SPEC, "", ("dummy",), dtype="float32", matmul_precision="highest"),
        cache=CacheConfig(**({"num_blocks_override": 12} | cache)),
        scheduler=SchedulerConfig(max_num_batched_tokens=16, max_num_seqs=4),
        load=LoadConfig(load_format="dummy"),
        device=DeviceConfig(cpu_threads=2),
        compilation=CompilationConfig(cudagraph_capture_sizes=SIZES),
    )


@pytest.fixture
def one_split(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer programs for the interpreter."""
    pytest.importorskip("triton")
    import kvik.kernels.paged_attention.triton as kernels

    monkeypatch.setattr(kernels, "splits_for", lambda num_programs, wanted: 1)


@pytest.fixture
def gpu() -> Iterator[FakeGpu]:
    with standing_in_for_gpu():
        yield FakeGpu()


def started(device: Device, engine: EngineConfig | None = None) -> tuple[ModelRunner, EngineFacts]:
    runner = ModelRunner(engine or config(), device)
    return runner, runner.start(PhaseTimer("test"))


def admitted(name: str, prompt: list[int]) -> AdmittedRequest:
    return AdmittedRequest(name, prompt, len(prompt), SamplingParams(temperature=0), None)


def greedy_tokens(runner: ModelRunner, num_steps: int) -> dict[str, list[int]]:
    """Three requests that begin in different steps, the last one's prompt in two pieces."""
    blocks = {"a": [1], "b": [2], "c": [3]}
    lengths = dict(zip("abc", map(len, PROMPTS), strict=True))
    tokens: dict[str, list[int]] = {"a": [], "b": [], "c": []}

    def share(name: str, first: int, count: int) -> ScheduledRequest:
        return ScheduledRequest(name, first, count, blocks.pop(name, []))

    def run(new: list[AdmittedRequest], shares: list[ScheduledRequest]) -> None:
        for sampled in runner.execute(StepPlan(new, shares, [])).sampled:
            assert sampled.error is None
            tokens[sampled.request_id] += sampled.token_ids

    def decoding(*names: str) -> list[ScheduledRequest]:
        return [share(name, lengths[name] + len(tokens[name]) - 1, 1) for name in names]

    run([admitted("a", PROMPTS[0])], [share("a", 0, 6)])
    run([admitted("b", PROMPTS[1])], [*decoding("a"), share("b", 0, 3)])
    run([admitted("c", PROMPTS[2])], [*decoding("a", "b"), share("c", 0, 7)])
    run([], [*decoding("a", "b"), share("c", 7, 4)])
    for _ in range(num_steps):
        run([], decoding("a", "b", "c"))
    return tokens


def test_tokens_are_those_of_the_cpu_by_graphs_and_call_by_call(gpu: FakeGpu, one_split: None) -> None:
    device = GpuDevice(gpu, gpu.total)
    by_graphs = greedy_tokens(started(device)[0], 2)
    assert gpu.num_replays > 0
    while device.use_idle_time():
        pass
    replays = gpu.num_replays
    again, _ = started(GpuDevice(FakeGpu(), gpu.total))
    assert greedy_tokens(again, 2) == by_graphs
    assert gpu.num_replays == replays


def test_the_cpus_tokens(one_split: None) -> None:
    with standing_in_for_gpu():
        runner, _ = started(GpuDevice(FakeGpu(), 1 << 30))
        found = greedy_tokens(runner, 4)
    wanted = greedy_tokens(started(CpuDevice(2))[0], 4)
    assert found == wanted


def test_steps_that_are_launched_ahead_have_the_tokens_of_those_before_them(gpu: FakeGpu, one_split: None) -> None:
    runner, _ = started(GpuDevice(gpu, gpu.total))
    ways = {
        "a": SamplingParams(temperature=0),
        "b": SamplingParams(temperature=1.2, top_p=0.9, seed=5, min_tokens=2, stop_token_ids=[9], logprobs=2),
        "c": SamplingParams(temperature=0, frequency_penalty=1.5, repetition_penalty=1.3, logit_bias={7: 1.0}),
    }

    def steps(ahead: bool) -> Iterator[StepPlan]:
        new = [AdmittedRequest(n, PROMPTS[i % 2], len(PROMPTS[i % 2]), ways[n], None) for i, n in enumerate(ways)]
        shares = [ScheduledRequest(r.request_id, 0, len(r.token_ids), [i + 1]) for i, r in enumerate(new)]
        yield StepPlan(new, shares, [])
        for step in range(2):
            shares = [
                ScheduledRequest(r.request_id, len(r.token_ids) + step, 1, [], input_in_flight=ahead) for r in new
            ]
            yield StepPlan([], shares, [])

    one_by_one = [runner.execute(plan).sampled for plan in steps(ahead=False)]
    for name in ways:
        runner._table.drop(name)
    under_way = [runner.submit(plan) for plan in steps(ahead=True)]
    assert [step.result().sampled for step in under_way] == one_by_one
    assert all(sampled.token_ids for step in one_by_one for sampled in step)


def test_the_cpus_tokens_by_torchs_attention(caplog: pytest.LogCaptureFixture) -> None:
    """It waits for the lengths: graphs hold what is between attentions only, tapes nothing."""
    engine = replace(config(), attention=AttentionConfig("TORCH_SDPA"))
    caplog.set_level(logging.INFO)
    with standing_in_for_gpu():
        device = GpuDevice(FakeGpu(), 1 << 30)
        found = greedy_tokens(started(device, engine)[0], 1)
        assert device._forward is not None
        assert {key.mode for key in device._forward._captured} == {"PIECEWISE"}
    assert "Using TORCH_SDPA attention backend out of potential backends: TRITON_ATTN, TORCH_SDPA." in caplog.text
    assert found == greedy_tokens(started(CpuDevice(2))[0], 1)
    assert "Using CPU_ATTN attention backend" in caplog.text
    assert found == greedy_tokens(started(CpuDevice(2), engine)[0], 1)


@pytest.mark.parametrize(
    ("name", "message"), [("CPU_ATTN", "on the CPU, and this engine on a GPU"), ("FLASHINFER", "not installed|float16")]
)
def test_an_attention_backend_that_is_not_here(gpu: FakeGpu, name: str, message: str) -> None:
    engine = replace(config(), attention=AttentionConfig(name))
    with pytest.raises(ConfigError, match=f"--attention-backend {name}: {name} .*({message})"):
        started(GpuDevice(gpu, gpu.total), engine)


def test_compiled_passes_are_captured_too(one_split: None) -> None:
    compilation = CompilationConfig(
        mode="VLLM_COMPILE", splitting_ops=(ATTENTION_OP,), backend="eager", cudagraph_capture_sizes=SIZES
    )
    with standing_in_for_gpu():
        gpu = FakeGpu()
        runner, _ = started(GpuDevice(gpu, gpu.total), replace(config(), compilation=compilation))
        found = greedy_tokens(runner, 2)
    assert gpu.num_replays > 0
    assert found == greedy_tokens(started(CpuDevice(2))[0], 2)


def test_what_is_compiled_in_the_background_gets_graphs_of_its_own(
    one_split: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They are captured and compared in idle moments; what steps compute is the same before, while and after."""
    monkeypatch.setattr(compile_choice, "_begin_filling", lambda *_: None)
    monkeypatch.setattr(contest, "NEEDED_RATIO", 1e9)
    monkeypatch.setattr(contest, "ROUNDS", 1)
    compilation = CompilationConfig(
        mode="VLLM_COMPILE",
        splitting_ops=(ATTENTION_OP,),
        backend="eager",
        cudagraph_capture_sizes=SIZES,
        is_in_background=True,
    )
    caplog.set_level(logging.INFO)
    with standing_in_for_gpu():
        gpu = FakeGpu()
        device = GpuDevice(gpu, gpu.total)
        runner, _ = started(device, replace(config(), compilation=compilation))
        background = device._forward
        assert isinstance(background, BackgroundCompilation)
        before, first = background.running, greedy_tokens(runner, 1)
        for name in first:
            runner._table.drop(name)
        background.wait_for_load()
        runner.use_idle_time()
        fall_asleep_and_wake_up(runner, gpu)
        while runner.use_idle_time():
            pass
        assert background.is_settled
        assert background.running is not before
        assert isinstance(background.running, GraphedForward)
        assert set(background.running.captured) >= {GraphKey("FULL", 4), GraphKey("PIECEWISE", 4)}
        replays = gpu.num_replays
        found = greedy_tokens(runner, 1)
        assert gpu.num_replays > replays
    assert "The compiled graph is faster and used from now on" in caplog.text
    assert found == first


def test_what_memory_comes_to(gpu: FakeGpu, one_split: None, caplog: pytest.LogCaptureFixture) -> None:
    """The arithmetic of a start: total x share, less weights, the largest step, what is outside torch, and graphs."""
    gpu.outside_torch, gpu.step_bytes, gpu.graph_bytes = 100 * MIB, 30 * MIB, MIB
    engine = config(num_blocks_override=None, gpu_memory_utilization=0.5)
    with caplog.at_level(logging.INFO):
        _, facts = started(GpuDevice(gpu, gpu.total), engine)
    sampling = 2 * 4 * 4 * SPEC.vocab_size  # four rows of logits copied, and of counts
    assert facts.activations_bytes == 30 * MIB + sampling
    assert facts.framework_bytes + facts.weights_bytes == 100 * MIB  # the fake's weights are not counted by torch
    graphs = facts.graphs_bytes
    assert graphs % MIB == 0
    assert graphs > 3 * MIB
    left = gpu.total // 2 - 130 * MIB - sampling - graphs
    assert facts.num_blocks == left // (16 * SPEC.kv_bytes_per_token(4)) - 1
    assert "Kernels are ready after" in caplog.text
    assert "GPU KV cache size" in caplog.text
    assert "Graph capturing finished" in caplog.text


def test_a_gpu_that_others_hold_most_of(gpu: FakeGpu) -> None:
    engine = config(num_blocks_override=None)
    with pytest.raises(InsufficientMemoryError, match=r"only 0.10 GiB are free: .* set it to at most 0.09"):
        started(GpuDevice(gpu, 100 * MIB), engine)


def test_what_only_a_cpu_has(gpu: FakeGpu) -> None:
    with pytest.raises(ConfigError, match="fp8 or auto"):
        started(GpuDevice(gpu, gpu.total), config(kv_cache_dtype="int8"))


def test_a_sleep_gives_memory_back_and_the_graphs_with_it(gpu: FakeGpu, one_split: None) -> None:
    device = GpuDevice(gpu, gpu.total)
    runner, _ = started(device)
    tokens = greedy_tokens(runner, 0)
    parts: dict[MemoryPart, list[torch.Tensor]] = {
        "kv_cache": [tensor for layer in runner._kv for tensor in (layer.k, layer.v)],
        "weights": runner._weights.memory,
    }
    sizes = {part: bytes_of(tensors) for part, tensors in parts.items()}
    for name in tokens:
        runner._table.drop(name)
    assert {part: runner.release(part) for part in parts} == sizes
    assert {part: bytes_of(tensors) for part, tensors in parts.items()} == dict.fromkeys(parts, 0)
    assert len(gpu.graphs) == 0
    assert runner.release("weights") == 0
    runner.restore("weights")
    assert len(gpu.graphs) == 0, "nothing can be captured while something is missing"
    runner.restore("kv_cache")
    assert {part: bytes_of(tensors) for part, tensors in parts.items()} == sizes
    replays = gpu.num_replays
    assert greedy_tokens(runner, 0) == tokens
    assert gpu.num_replays > replays


def fall_asleep_and_wake_up(runner: ModelRunner, gpu: FakeGpu) -> None:
    parts: list[MemoryPart] = ["kv_cache", "weights"]
    for part in parts:
        runner.release(part)
    assert len(gpu.graphs) == 0
    for part in parts:
        runner.restore(part)


def bytes_of(tensors: list[torch.Tensor]) -> int:
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors)


@pytest.mark.parametrize(("dtype", "stored"), [("fp8", torch.float8_e4m3fn), ("fp8_e5m2", torch.float8_e5m2)])
def test_weights_keys_and_values_in_8_bit_floats(
    dtype: str, stored: torch.dtype, gpu: FakeGpu, one_split: None, caplog: pytest.LogCaptureFixture
) -> None:
    engine = config(kv_cache_dtype=KV_CACHE_DTYPES[dtype])
    engine = replace(engine, model=replace(engine.model, dtype="bfloat16", quantization="fp8"))
    with caplog.at_level(logging.INFO, logger="kvik"):
        runner, facts = started(GpuDevice(gpu, gpu.total), engine)
    assert "Weights by format: fp8" in caplog.text
    assert runner._kv[0].k.dtype is stored
    assert facts.kv_cache_bytes == 12 * 16 * SPEC.kv_bytes_per_token(1)
    assert all(greedy_tokens(runner, 0).values())
    assert gpu.num_replays > 0


def test_8_bit_floats_before_sm_89(gpu: FakeGpu, one_split: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "capability", lambda: (8, 0))
    engine = config(kv_cache_dtype="float8_e4m3fn")
    with pytest.raises(
        ConfigError, match=r"--kv-cache-dtype fp8: .* of sm_89 or above, this one is sm_80: take fp8_e5"
    ):
        started(GpuDevice(gpu, gpu.total), engine)


@pytest.mark.parametrize(
    ("change", "message"),
    [("model", "--quantization fp8 is for a GPU"), ("cache", "--kv-cache-dtype fp8 is for a GPU")],
)
def test_8_bit_floats_on_a_cpu(change: str, message: str) -> None:
    engine = config(**({"kv_cache_dtype": "float8_e4m3fn"} if change == "cache" else {}))
    if change == "model":
        engine = replace(engine, model=replace(engine.model, quantization="fp8"))
    with pytest.raises(ConfigError, match=message):
        started(CpuDevice(2), engine)


def test_a_model_of_bf16_computes_in_bf16(gpu: FakeGpu, one_split: None) -> None:
    engine = config()
    engine = replace(engine, model=replace(engine.model, dtype="bfloat16"))
    runner, facts = started(GpuDevice(gpu, gpu.total), engine)
    assert runner._kv[0].k.dtype is torch.bfloat16
    assert facts.kv_cache_bytes == 12 * 16 * SPEC.kv_bytes_per_token(2)
    assert all(len(tokens) > 4 for tokens in greedy_tokens(runner, 4).values())
