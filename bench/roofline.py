"""What a workload could reach at most on a machine: weights over bandwidth, or arithmetic over its peak."""

from __future__ import annotations

from pathlib import Path

from bench.ceilings import Ceilings
from bench.engines import Contestant
from bench.traffic import Closed


def weight_bytes(path: Path) -> int:
    """Bytes of the weights of a .gguf file or of a folder's safetensors."""
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    return sum(f.stat().st_size for f in files)


def bound(contestant: Contestant, path: Path, traffic: Closed, ceilings: Ceilings) -> tuple[float, float]:
    """(least milliseconds per output token, most output tokens per second of all clients).

    Every step reads all weights once; every token, prompt tokens included, takes two operations per parameter. A
    quantised model's arithmetic is in integers, which this machine's peak is not measured for: only reading binds it.
    """
    num_bytes = weight_bytes(path) // (2 if "int8" in contestant.flags else 1)
    step_s = num_bytes / (ceilings.read_gb_per_s * 1e9)
    most = traffic.num_clients / step_s
    if path.suffix != ".gguf" and "int8" not in contestant.flags:
        per_output_token = (traffic.prefix_len + traffic.input_len) / traffic.output_len + 1
        operations = num_bytes * per_output_token  # bf16: two operations per parameter of two bytes
        most = min(most, ceilings.bf16_gflop_per_s * 1e9 / operations)
    return 1e3 * step_s, most
