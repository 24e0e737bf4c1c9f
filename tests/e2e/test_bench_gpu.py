"""bench/gpu.py goes through on a CPU, and its arithmetic; what a GPU does is not known here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.gpu import ROWS, idle_per_step_us, roofline_s
from bench.random_checkpoint import SHAPES, tensors, write
from kvik.modelfile import open_model
from kvik.platforms.gpus import find_gpus
from kvik.text.tokenizer import Tokenizer
from kvik.weights import open_checkpoint

ROOT = Path(__file__).parents[2]


def run(*flags: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
    command = [sys.executable, "-m", "bench.gpu", *flags]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env, check=False)


@pytest.mark.slow
def test_a_rehearsal_measures_every_row(tmp_path: Path) -> None:
    found = run("--rehearse", "--json", str(tmp_path / "found.json"))
    assert found.returncode == 0, found.stderr
    told = json.loads((tmp_path / "found.json").read_text())
    assert [row["name"] for row in told["rows"]] == [row.name for row in ROWS]
    assert all(row["verdict"] == "rehearsed" and row["work"] in found.stdout for row in told["rows"])
    assert not told["failures"]


@pytest.mark.skipif(bool(find_gpus().visible), reason="there is a GPU here")
def test_without_a_gpu() -> None:
    found = run("--only", "decode")
    assert found.returncode == 2
    assert "no GPU: " in found.stdout


def test_a_checkpoint_of_random_weights_is_one(tmp_path: Path) -> None:
    write(SHAPES["tiny"], tmp_path)
    found = open_model(tmp_path)
    names = {raw.name: raw.shape for shard in open_checkpoint(found).shards() for raw in shard.tensors()}
    assert names == dict(tensors(SHAPES["tiny"]))
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.decode(tokenizer.encode("Is it 1?")) == "Is it 1?"
    assert tokenizer.decode([4095]) == "word3839"


def test_parameters_of_the_shapes() -> None:
    def count(name: str) -> int:
        total = 0
        for _, sizes in tensors(SHAPES[name]):
            total += sizes[0] * (sizes[1] if len(sizes) == 2 else 1)
        return total

    assert count("llama-3.1-8b") == 8_030_261_248
    assert count("qwen3-0.6b") == 596_049_920


def test_idle_time_between_steps() -> None:
    """Steps of three pieces 1 us apart, one of them beside another; 50 us between steps."""
    spans = []
    for step in range(5):
        at = step * 100.0
        spans += [(at, at + 20.0), (at + 10.0, at + 15.0), (at + 21.0, at + 30.0), (at + 31.0, at + 50.0)]
    assert idle_per_step_us(spans[::-1], 5) == 50.0
    with pytest.raises(RuntimeError, match="saw 14 gaps in 40 steps"):
        idle_per_step_us(spans, 40)


def test_roofline_of_one_request_is_its_weights() -> None:
    """Two tokens: a prompt at the matrix rate, then one reading of all weights and eleven tokens' keys and values."""
    shape = SHAPES["tiny"]
    seconds = roofline_s(shape, [(10, 2)], copy_gb_s=1.0, matrix_tflop_s=1.0)
    prompt_s = 20 * shape.num_matrix_weights / 1e12
    step_s = (2 * shape.num_matrix_weights + 11 * shape.kv_bytes_per_token) / 1e9
    assert seconds == pytest.approx(prompt_s + step_s)
