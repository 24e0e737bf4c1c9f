from __future__ import annotations

from collections.abc import Callable
from functools import partial

from fakes.fake_gpu import FakeGpu
from kvik.runner.memory_profile import measure_graphs, measure_step

MIB = 1 << 20


def test_a_step_and_what_is_outside_of_torch() -> None:
    gpu = FakeGpu(total=1 << 30, outside_torch=300 * MIB, step_bytes=70 * MIB)
    steps: list[int] = []
    profile = measure_step(gpu, (1 << 30) - 20 * MIB, lambda: steps.append(1))
    assert steps == [1]
    assert profile.activations == 70 * MIB
    assert profile.outside_torch == 280 * MIB  # 20 MiB were another process's before


def test_graphs_are_as_large_as_the_largest_and_the_smallest_of_their_mode_say() -> None:
    gpu = FakeGpu(graph_bytes=5 * MIB)
    memory, kept = gpu.graph_memory(), []

    def graphs(*sizes: int) -> list[Callable[[], None]]:
        return [partial(capture, size) for size in sizes]

    def capture(num: int) -> None:
        with gpu.capturing(memory) as graphs:
            for _ in range(num):
                graphs.begin()
                kept.append(graphs.end())

    assert measure_graphs(gpu, [graphs(3, 9, 9, 9, 1)]) == (3 + 3 * 1 + 1) * 5 * MIB
    assert measure_graphs(gpu, [graphs(3, 9, 2), graphs(2, 9, 9, 1)]) == (3 + 2 + 2 + 2 + 1 + 1 + 1) * 5 * MIB
    assert measure_graphs(gpu, [graphs(3, 1)]) == 20 * MIB
    assert measure_graphs(gpu, [graphs(3)]) == 15 * MIB
    assert measure_graphs(gpu, []) == 0
