from __future__ import annotations

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


def test_graphs_are_as_many_as_the_second_one_says() -> None:
    gpu = FakeGpu(graph_bytes=5 * MIB)

    def capture(num: int) -> None:
        with gpu.capturing() as graphs:
            for _ in range(num):
                graphs.begin()
                graphs.end()

    captures = [lambda: capture(3), lambda: capture(1)]
    assert measure_graphs(gpu, captures, 10) == (15 + 5 + 8 * 5) * MIB
    assert measure_graphs(gpu, captures, 2) == 20 * MIB
    assert measure_graphs(gpu, captures[:1], 1) == 15 * MIB
    assert measure_graphs(gpu, [], 0) == 0
