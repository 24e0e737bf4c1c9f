"""What a model takes on a GPU beside its weights: measured with the largest step there can be, before the KV cache.

    outside torch   the driver's context, compiled kernels, libraries: what this process took of the free memory, less
                    what torch holds
    activations     torch's peak in that step, less the tensors that were there before
    graphs          of each mode the largest and the smallest are captured and given back; those of other sizes share
                    the largest one's memory, and each takes what the smallest took

The sum is what design and `kvik plan` call activations and framework, and graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kvik.runner.gpu import Gpu


@dataclass(frozen=True)
class MemoryProfile:
    """Bytes."""

    weights: int
    """Of tensors before the step: weights, rotary tables, slots of adapters."""
    activations: int
    outside_torch: int
    graphs: int = 0


def measure_step(gpu: Gpu, free_at_start: int, largest_step: Callable[[], None]) -> MemoryProfile:
    """`free_at_start`: the device's free bytes before this process had a context on it."""
    gpu.synchronize()
    gpu.release_unused()
    before = gpu.memory().allocated
    gpu.reset_peak()
    largest_step()
    gpu.synchronize()
    activations = max(0, gpu.memory().peak_allocated - before)
    gpu.release_unused()
    now = gpu.memory()
    outside_torch = max(0, free_at_start - now.free - now.reserved)
    return MemoryProfile(before, activations, outside_torch)


def measure_graphs(gpu: Gpu, modes: Sequence[Sequence[Callable[[], None]]]) -> int:
    """Bytes of all graphs, from capturing the first and the last of each mode. Each mode's come largest first."""
    return sum(_measure_mode(gpu, captures) for captures in modes)


def _measure_mode(gpu: Gpu, captures: Sequence[Callable[[], None]]) -> int:
    chosen = captures if len(captures) < 3 else (captures[0], captures[-1])
    held = [_held(gpu)]
    for capture in chosen:
        capture()
        held.append(_held(gpu))
    more_of_last = max(0, held[-1] - held[-2]) if len(chosen) > 1 else 0
    return max(0, held[-1] - held[0]) + (len(captures) - len(chosen)) * more_of_last


def _held(gpu: Gpu) -> int:
    gpu.synchronize()
    gpu.release_unused()
    now = gpu.memory()
    return now.total - now.free
