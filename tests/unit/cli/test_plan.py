"""`kvik plan` as its users call it: numbers that are known, what would fit, and what is wrong with a config."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvik.cli.main import main

LLAMA_8B = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16", "hidden_size": 4096,
    "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    "vocab_size": 128256, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
    "hidden_act": "silu", "tie_word_embeddings": False, "bos_token_id": 128000, "eos_token_id": 128001,
}  # fmt: skip
A_GPU = ["--device-memory", "24GiB", "--gpu-memory-utilization", "0.90", "--graph-memory", "0.69GiB",
         "--activation-memory", "0.97GiB"]  # fmt: skip


@pytest.fixture
def llama_8b(tmp_path: Path) -> str:
    """A config.json and nothing beside it."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(LLAMA_8B))
    return str(path)


def plan(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert main(["plan", *words]) == code
    return capsys.readouterr().out


def planned(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(plan(capsys, *words, "--json", code=code))
    return found


def test_the_numbers_of_the_field(llama_8b: str, capsys: pytest.CaptureFixture[str]) -> None:
    table = plan(capsys, llama_8b, *A_GPU, "--max-model-len", "10000")
    for line in (
        "KV per token          128 KiB", "KV per block            2 MiB", "blocks                  2,533",
        "tokens                 40,528", "max concurrency         4.05x  at 10,000 tokens",
    ):  # fmt: skip
        assert line in table
    assert "Largest context that fits: 40,528 tokens." in table


def test_what_does_not_fit_says_what_would(llama_8b: str, capsys: pytest.CaptureFixture[str]) -> None:
    table = plan(capsys, llama_8b, *A_GPU, code=1)
    (longest,) = [line for line in table.splitlines() if "--max-model-len 40528" in line][:1]
    assert longest
    assert "MiB" in plan(capsys, llama_8b, *A_GPU, "--max-model-len", "40528")
    plan(capsys, llama_8b, *A_GPU, "--max-model-len", "40529", code=1)


SIZED = st.one_of(
    st.just([]), st.integers(0, 10**9).map(lambda count: ["--kv-cache-memory-bytes", str(count)]),
    st.integers(2, 500).map(lambda count: ["--num-gpu-blocks-override", str(count)]),
)  # fmt: skip


@given(length=st.integers(1_000, 131_072), gib=st.integers(4, 30), cache=SIZED)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_each_remedy_makes_it_fit(
    length: int, gib: int, cache: list[str], llama_8b: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [llama_8b, "--device-memory", f"{gib}GiB", "--max-model-len", str(length), *cache]
    if main(["plan", *words]) == 0:
        assert "It fits" not in capsys.readouterr().out  # a plan that fits needs no such line
        return
    text = capsys.readouterr().out
    assert ("as it is on a device with" in text) == (not cache)
    head = next((line for line in text.splitlines() if "makes it fit:" in line or "fit by itself:" in line), None)
    assert (head is None) == ("No flag makes it fit" in text)
    for line in [] if head is None else text.partition(head)[2].split("\n\n")[0].splitlines()[1:]:
        plan(capsys, *words, *line.strip().split("  ")[0].split())


def test_devices_that_share_a_model_hold_more(llama_8b: str, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = (planned(capsys, llama_8b, *A_GPU, "--max-model-len", "8192", "-tp", n)["kv_cache"] for n in "12")
    assert two["bytes_per_token"] * 2 == one["bytes_per_token"] == 131072
    assert two["num_blocks"] > 4 * one["num_blocks"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"architectures": ["FooForCausalLM"]}, "architecture FooForCausalLM is not supported; supported are Llama"),
        ({"hidden_size": None}, "hidden_size"),
        ({"num_hidden_layers": -3}, "num_hidden_layers"),
        ({"intermediate_size": "wide"}, "intermediate_size"),
    ],
)
def test_a_broken_config_is_named_with_its_key(
    change: dict[str, Any], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(LLAMA_8B | change))
    assert main(["plan", str(path)]) != 0
    error = capsys.readouterr().err
    assert expected in error
    assert str(path) in error


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--graph-memory", "1GiB", "--device", "cpu"], "--graph-memory is of a GPU"),
        (["--graph-memory", "1GiB"], "--device-memory 24GiB"),
        (["--tensor-parallel-size", "0"], "--tensor-parallel-size takes 1 or more"),
        (["--tflops", "-1"], "--tflops takes a number above 0"),
        (["second"], "one MODEL, please"),
    ],
)
def test_mistakes(words: list[str], expected: str, llama_8b: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", llama_8b, *words]) != 0
    assert expected in capsys.readouterr().err


@given(gib=st.integers(20, 400), more=st.integers(0, 100), tenths=st.integers(1, 9))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_more_memory_never_holds_less(
    gib: int, more: int, tenths: int, llama_8b: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def num_blocks(size: int) -> int:
        main(["plan", llama_8b, "--device-memory", f"{size}GiB", "--graph-memory", "0GiB", "--json",
              "--gpu-memory-utilization", f"0.{tenths}", "--max-model-len", "1000"])  # fmt: skip
        return int(json.loads(capsys.readouterr().out)["kv_cache"]["num_blocks"])

    assert num_blocks(gib) <= num_blocks(gib + more)


def test_a_plan_needs_no_torch(llama_8b: str) -> None:
    code = "import sys; from kvik.cli.main import main; main(sys.argv[1:]); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, "plan", llama_8b, *A_GPU], check=True, capture_output=True)
