"""What other flags would change: those that the planned device has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kvik.config.args import AsyncEngineArgs
from kvik.modelfile import open_config
from kvik.plan.explanation import kv_lines
from kvik.plan.formats import Kind
from kvik.plan.memory_plan import Device, compute
from kvik.plan.stored import stored_weights
from kvik.plan.what_if import variants

SHAPE = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 1024, "intermediate_size": 4096,
    "num_hidden_layers": 4, "num_attention_heads": 16, "num_key_value_heads": 8, "vocab_size": 1000,
    "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "torch_dtype": "bfloat16", "bos_token_id": 1,
    "eos_token_id": 2, "tie_word_embeddings": False,
}  # fmt: skip
FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic"}
OF_A_GPU = {"--kv-cache-dtype fp8", "--quantization fp8", "--quantization int8", "--quantization int4"}
OF_A_CPU = {"--kv-cache-dtype int8", "--quantization int8", "--quantization int4"}


@pytest.mark.parametrize(("kind", "expected"), [("cuda", OF_A_GPU), ("cpu", OF_A_CPU)])
def test_types_that_the_device_has(kind: Kind, expected: set[str], tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(SHAPE))
    config = AsyncEngineArgs(model=str(path)).create_engine_config(open_config(path))
    base = compute(config, stored_weights(open_config(path)), Device(8 << 30, kind))
    found = {v.text: v.outcome for v in variants(base, stored_weights(None)) if "dtype" in v.text or "quant" in v.text}
    assert set(found) == expected
    if kind == "cuda":
        halved = found["--kv-cache-dtype fp8"]
        assert halved.kv_bytes_per_token * 2 == base.kv_bytes_per_token
        assert kv_lines(halved)[0].endswith("fp8")
        layers = 4 * (1024 * (2048 + 1024) + 3 * 1024 * 4096)
        saved = base.budget.weights_bytes - found["--quantization fp8"].budget.weights_bytes
        assert 0.98 * layers < saved < layers, "a byte of two for each element, less a scale for each row"


def test_of_a_checkpoint_in_fp8_a_cpu_could_make_whole_numbers(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(SHAPE | {"quantization_config": FP8}))
    stored = stored_weights(open_config(path))
    for asked, others in ((None, {"int8", "int4"}), ("int8", {"fp8", "int4"})):
        config = AsyncEngineArgs(model=str(path), quantization=asked).create_engine_config(open_config(path))
        base = compute(config, stored, Device(8 << 30, "cpu"))
        assert {v.flags[0][1] for v in variants(base, stored) if "quant" in v.text} == others
        assert ("q8_0" in base.weights.bytes_by_format) is (asked == "int8")


def test_a_checkpoint_in_fp8_could_be_unpacked_and_back(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(SHAPE | {"quantization_config": FP8}))
    stored = stored_weights(open_config(path))
    for asked, other in ((None, "--quantization none"), ("none", "--quantization fp8")):
        config = AsyncEngineArgs(model=str(path), quantization=asked).create_engine_config(open_config(path))
        base = compute(config, stored, Device(8 << 30, "cuda"))
        changed = next(v.outcome for v in variants(base, stored) if v.text == other)
        assert ("fp8" in base.weights.bytes_by_format) is (asked is None)
        assert ("fp8" in changed.weights.bytes_by_format) is (asked == "none")
