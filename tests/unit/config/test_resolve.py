from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kvik.config import EngineConfig
from kvik.config.args import AsyncEngineArgs, EngineArgs
from kvik.config.resolve import EMBEDDED_MODEL_NAME
from kvik.config.speculative import SpeculativeConfig
from kvik.config.values import AUTO
from kvik.errors import ConfigError, ModelFileError, NotSupportedYetError
from kvik.modelfile import ModelFile, ModelSpec, Quantization, RopeSpec

SPEC = ModelSpec(
    architecture="LlamaForCausalLM", vocab_size=32, hidden_size=8, intermediate_size=16, num_layers=1, num_heads=2,
    num_kv_heads=1, head_dim=4, max_position_embeddings=4096, rms_norm_eps=1e-5, rope=RopeSpec(theta=10000.0),
)  # fmt: skip


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for prefix in ("KVIK_", "VLLM_"):
        for name in ("CPU_KVCACHE_SPACE", "ALLOW_LONG_MAX_MODEL_LEN", "LOGGING_LEVEL"):
            monkeypatch.delenv(prefix + name, raising=False)


@pytest.fixture
def model_file(tmp_path: Path) -> ModelFile:
    return ModelFile(tmp_path, "hf", SPEC, {}, None, {})


def resolve(model_file: ModelFile, **given: Any) -> EngineConfig:
    return AsyncEngineArgs(model=str(model_file.path), **given).create_engine_config(model_file)


def test_defaults_of_a_server(model_file: ModelFile) -> None:
    config = resolve(model_file)
    assert config.model.model == config.model.tokenizer == str(model_file.path)
    assert config.model.served_model_names == (str(model_file.path),)
    assert (config.model.dtype, config.model.max_model_len) == ("bfloat16", 4096)
    assert (config.scheduler.max_num_batched_tokens, config.scheduler.max_num_seqs) == (2048, 128)
    assert config.cache.block_size == 16
    assert config.cache.enable_prefix_caching
    assert config.observability.log_stats


def test_defaults_offline(model_file: ModelFile) -> None:
    config = EngineArgs(model="m").create_engine_config(model_file)
    assert (config.scheduler.max_num_batched_tokens, config.scheduler.max_num_seqs) == (4096, 256)


@pytest.mark.parametrize(
    ("args", "given", "max_step_ms"),
    [(AsyncEngineArgs, {}, None), (EngineArgs, {}, 0), (AsyncEngineArgs, {"enable_chunked_prefill": False}, 0),
     (EngineArgs, {"max_step_ms": AUTO}, None), (AsyncEngineArgs, {"max_step_ms": 12.5}, 12.5),
     (AsyncEngineArgs, {"max_step_ms": 0.0}, 0)],
)  # fmt: skip
def test_the_time_of_a_step(
    model_file: ModelFile, args: type[EngineArgs], given: dict[str, Any], max_step_ms: float | None
) -> None:
    assert (
        args(model=str(model_file.path), **given).create_engine_config(model_file).scheduler.max_step_ms == max_step_ms
    )


def test_the_embedded_model_has_its_own_name(model_file: ModelFile) -> None:
    assert EngineArgs().create_engine_config(model_file).model.served_model_names == (EMBEDDED_MODEL_NAME,)


def test_a_positional_model_wins() -> None:
    args = AsyncEngineArgs.from_cli_args({"model": "a", "model_tag": "b", "port": 1, "max_num_seqs": 3})
    assert (args.model, args.max_num_seqs) == ("b", 3)


@pytest.mark.parametrize(
    ("asked", "of_checkpoint", "dtype"),
    [("auto", "bfloat16", "bfloat16"), ("auto", "float32", "float32"), ("float", "bfloat16", "float32"),
     ("bfloat16", "float32", "bfloat16")],
)  # fmt: skip
def test_dtype(model_file: ModelFile, asked: str, of_checkpoint: str, dtype: str) -> None:
    other = replace(model_file, spec=replace(SPEC, dtype=of_checkpoint))
    assert resolve(other, dtype=asked).model.dtype == dtype


def test_float16(model_file: ModelFile, caplog: pytest.LogCaptureFixture) -> None:
    other = replace(model_file, spec=replace(SPEC, dtype="float16"))
    assert resolve(other).model.dtype == "bfloat16"
    assert "casting to bfloat16" in caplog.text
    with pytest.raises(ConfigError, match=r"--dtype half cannot be computed on a CPU: use --dtype bfloat16"):
        resolve(other, dtype="half")


def test_max_model_len(model_file: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve(model_file, max_model_len=100).model.max_model_len == 100
    assert resolve(model_file, max_model_len=-1).model.max_model_len is None
    with pytest.raises(ConfigError, match="beyond the 4096 tokens"):
        resolve(model_file, max_model_len=4097)
    monkeypatch.setenv("KVIK_ALLOW_LONG_MAX_MODEL_LEN", "1")
    assert resolve(model_file, max_model_len=4097).model.max_model_len == 4097


@pytest.mark.parametrize(
    ("given", "budget", "seqs"),
    [
        ({"max_num_seqs": 4, "max_model_len": 16}, 64, 4),
        ({"max_num_batched_tokens": 100}, 100, 100),
        ({"max_num_batched_tokens": 512, "max_num_seqs": 512}, 512, 512),
        ({"max_num_seqs": 4000}, 4000, 4000),
        ({"enable_chunked_prefill": False}, 4096, 128),
        ({"performance_mode": "throughput"}, 4096, 256),
        ({"max_num_seqs": 1, "max_model_len": 1}, 1, 1),
    ],
)
def test_batch_limits(model_file: ModelFile, given: dict[str, Any], budget: int, seqs: int) -> None:
    scheduler = resolve(model_file, **given).scheduler
    assert (scheduler.max_num_batched_tokens, scheduler.max_num_seqs) == (budget, seqs)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_num_batched_tokens": 8, "max_num_seqs": 9}, "--max-num-batched-tokens 8 is below --max-num-seqs 9"),
        ({"max_num_batched_tokens": 512, "enable_chunked_prefill": False}, "below the 4096 tokens of max_model_len"),
        ({"max_num_seqs": 0}, "--max-num-seqs takes 1 or more, got 0"),
        ({"max_step_ms": -2.0}, "--max-step-ms takes 0 (no limit) or more milliseconds, or auto, got -2"),
        ({"max_step_ms": float("inf")}, "--max-step-ms takes 0"),
        ({"max_step_ms": 50.0, "enable_chunked_prefill": False}, "--max-step-ms 50.0 needs prompts that may be cut"),
        ({"max_step_ms": AUTO, "enable_chunked_prefill": False}, "--max-step-ms auto needs prompts"),
        ({"max_num_batched_tokens": 0}, "--max-num-batched-tokens takes 1 or more"),
        ({"max_model_len": 0}, "--max-model-len takes 1 or more"),
        ({"block_size": 24}, "--block-size takes one of 16, 32"),
        ({"gpu_memory_utilization": 1.5}, "--gpu-memory-utilization takes a share"),
        ({"kv_cache_memory_bytes": 0}, "--kv-cache-memory-bytes takes 1 or more"),
        ({"device_memory": 0}, "--device-memory takes more than nothing"),
        ({"num_gpu_blocks_override": 0}, "--num-gpu-blocks-override takes 1 or more"),
        ({"watermark": 1.0}, "--watermark takes a share"),
        ({"long_prefill_token_threshold": -1}, "--long-prefill-token-threshold takes 0"),
        ({"stream_interval": 0}, "--stream-interval takes 1"),
        ({"max_logprobs": -2}, "--max-logprobs takes -1"),
        ({"cpu_threads": 0}, "--cpu-threads takes 1"),
        ({"tokenizer": "/no/such/place"}, "--tokenizer: there is no folder or .gguf file /no/such/place"),
        ({"load_format": "gguf"}, "--load-format gguf does not fit"),
    ],
)
def test_what_cannot_be_is_refused(model_file: ModelFile, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(model_file, **given)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [{"load_format": "tensorizer"},
     {"kv_cache_dtype": "fp8_ds_mla"}, {"kv_cache_dtype": "nvfp4"}, {"performance_mode": "interactivity"}],
)  # fmt: skip
def test_what_kvik_does_not_have_yet(model_file: ModelFile, given: dict[str, Any]) -> None:
    ((name, value),) = given.items()
    with pytest.raises(NotSupportedYetError, match=f"not supported yet: --{name.replace('_', '-')} {value}"):
        resolve(model_file, **given)


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [("auto", "auto"), ("float16", "float16"), ("bfloat16", "bfloat16"), ("int8", "int8"),
     ("int8_per_token_head", "int8"), ("fp8", "float8_e4m3fn"), ("fp8_e4m3", "float8_e4m3fn"),
     ("fp8_e5m2", "float8_e5m2")],
)  # fmt: skip
def test_types_of_keys_and_values(model_file: ModelFile, asked: str, wanted: str) -> None:
    assert resolve(model_file, kv_cache_dtype=asked).cache.kv_cache_dtype == wanted


def test_a_type_of_keys_and_values_that_is_not_there_names_those_that_are(model_file: ModelFile) -> None:
    with pytest.raises(NotSupportedYetError, match=r"--kv-cache-dtype nvfp4; .* one of auto, float16, bfloat16, int8"):
        resolve(model_file, kv_cache_dtype="nvfp4")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"device": "cpu", "kv_cache_dtype": "fp8"}, "--kv-cache-dtype fp8 is for a GPU: take int8, .*or auto"),
        ({"device": "cpu", "kv_cache_dtype": "fp8_e5m2"}, "--kv-cache-dtype fp8_e5m2 is for a GPU"),
        ({"device": "cpu", "quantization": "fp8"}, "--quantization fp8 is for a GPU: .* Take --quantization int8"),
        ({"device": "cuda", "kv_cache_dtype": "int8"}, "int8 is a format of the CPU's; on a GPU take fp8 or auto"),
    ],
)
def test_what_the_device_that_was_asked_for_does_not_have(
    model_file: ModelFile, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(model_file, **given)
    assert resolve(model_file, **given | {"device": "auto"})


def test_int8_keys_need_whole_scales(model_file: ModelFile) -> None:
    odd = replace(model_file, spec=replace(model_file.spec, head_dim=6))
    with pytest.raises(ConfigError, match="int8 needs heads of a multiple of 4 dimensions, this model's have 6"):
        resolve(odd, kv_cache_dtype="int8")


QUANTISED = Quantization("awq", 4, 128, False)


@pytest.mark.parametrize("asked", ["int8", "int4", "fp8"])
def test_float_weights_are_quantised_on_request(model_file: ModelFile, asked: str) -> None:
    assert resolve(model_file, quantization=asked).model.quantization == asked
    assert resolve(model_file).model.quantization is None
    with pytest.raises(ConfigError, match=f"--quantization {asked} would quantise .* a second time, which is awq"):
        resolve(replace(model_file, quantization=QUANTISED), quantization=asked)


def test_the_method_of_the_checkpoint_may_be_named_and_must_be_right(model_file: ModelFile) -> None:
    quantised = replace(model_file, quantization=QUANTISED)
    assert resolve(quantised, quantization="awq").model.quantization is None
    with pytest.raises(ConfigError, match=r"--quantization gptq does not fit .* whose weights are awq: leave it out$"):
        resolve(quantised, quantization="gptq")
    with pytest.raises(ConfigError, match=r"--quantization awq does not fit .* not quantised: .* int8 or int4 or fp8"):
        resolve(model_file, quantization="awq")
    with pytest.raises(ConfigError, match=r"--quantization fp4 is not something .*: it takes int8, int4, fp8 to qu"):
        resolve(model_file, quantization="fp4")
    in_fp8 = replace(model_file, quantization=Quantization("fp8", 8, 0, True, packed=False, fp8="fp8"))
    assert resolve(in_fp8, quantization="fp8").model.quantization is None
    assert resolve(in_fp8, quantization="int8").model.quantization == "int8"


def test_a_quantised_checkpoint_may_be_unpacked(model_file: ModelFile) -> None:
    gguf = replace(model_file, format="gguf")
    assert resolve(gguf, quantization="none").model.quantization == "none"
    assert resolve(replace(model_file, quantization=QUANTISED), quantization="none").model.quantization == "none"
    assert resolve(model_file, quantization="none").model.quantization is None


def test_a_gguf_file_may_be_called_one(model_file: ModelFile) -> None:
    gguf = replace(model_file, format="gguf")
    assert resolve(gguf, quantization="gguf", load_format="gguf").load.load_format == "gguf"
    with pytest.raises(ConfigError, match="--load-format safetensors does not fit"):
        resolve(gguf, load_format="safetensors")


def test_cache_space_of_the_environment_gives_way_to_the_flag(
    model_file: ModelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "2")
    assert resolve(model_file).cache.kv_cache_memory_bytes == 2 * 2**30
    assert resolve(model_file, kv_cache_memory_bytes=5).cache.kv_cache_memory_bytes == 5


def test_what_was_decided_is_logged(model_file: ModelFile, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="kvik")
    resolve(model_file)
    assert caplog.messages == [
        "Resolved architecture: LlamaForCausalLM",
        "Using max model len 4096",
        "Chunked prefill is enabled with max_num_batched_tokens=2048.",
    ]


def test_code_of_a_model_is_never_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--trust-remote-code is refused"):
        EngineArgs(model=str(tmp_path), trust_remote_code=True).open_model()


def test_a_model_that_is_not_there() -> None:
    with pytest.raises(ModelFileError, match="no such model: org/name"):
        EngineArgs(model="org/name").open_model()


def test_drafts_are_asked_for_and_refused(model_file: ModelFile) -> None:
    assert resolve(model_file).speculative is None
    asked = {"method": "ngram", "num_speculative_tokens": 5, "prompt_lookup_max": 4}
    assert resolve(model_file, speculative_config=asked).speculative == SpeculativeConfig(
        "ngram", 5, prompt_lookup_min=4, prompt_lookup_max=4
    )
    with pytest.raises(ConfigError, match="'method' takes ngram or suffix"):
        resolve(model_file, spec_method="eagle3")


def test_steps_are_planned_ahead_as_asked_but_not_with_drafts(model_file: ModelFile) -> None:
    assert resolve(model_file).scheduler.async_scheduling is None
    assert resolve(model_file, async_scheduling=True).scheduler.async_scheduling is True
    asked = {"method": "ngram", "num_speculative_tokens": 5, "prompt_lookup_max": 4}
    assert resolve(model_file, async_scheduling=False, speculative_config=asked).speculative is not None
    with pytest.raises(ConfigError, match="leave out --async-scheduling or --speculative-config"):
        resolve(model_file, async_scheduling=True, speculative_config=asked)
