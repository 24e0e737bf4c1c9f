"""What a workload could reach at most on a machine: weights over bandwidth, and arithmetic over its peak."""

from __future__ import annotations

from pathlib import Path

from bench.ceilings import Ceilings
from bench.engines import Contestant
from bench.traffic import Closed


def weight_files(path: Path) -> list[Path]:
    """A .gguf file itself, or a folder's safetensors."""
    return [path] if path.is_file() else sorted(path.glob("*.safetensors"))


def weight_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in weight_files(path))


def bound(contestant: Contestant, path: Path, traffic: Closed, ceilings: Ceilings) -> tuple[float, float]:
    """(least milliseconds per output token, most output tokens per second of all clients).

    Every decoding step reads all weights once, and takes two operations per parameter and client; every prompt token
    takes two operations per parameter. A quantised model's arithmetic is in integers, which this machine's peak is not
    measured for: only reading binds it.
    """
    num_bytes = weight_bytes(path) // (2 if "int8" in contestant.flags else 1)
    step_s = num_bytes / (ceilings.read_gb_per_s * 1e9)
    token_s = 0.0
    if path.suffix != ".gguf" and "int8" not in contestant.flags:
        token_s = num_bytes / (ceilings.bf16_gflop_per_s * 1e9)  # two operations per parameter of two bytes
    num_clients = traffic.num_clients
    prompts_s = num_clients * (traffic.prefix_len + traffic.input_len) * token_s
    answers_s = traffic.output_len * max(step_s, num_clients * token_s)
    return 1e3 * step_s, num_clients * traffic.output_len / (prompts_s + answers_s)
