from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from kvik.kernels import runtime
from kvik.kernels.linear import PackedWeight, linear

needs_native = pytest.mark.skipif(runtime.native is None, reason="kvik._native is not built")


def random_linear(n: int = 300, k: int = 200, rows: int = 40) -> tuple[torch.Tensor, PackedWeight]:
    generator = torch.Generator().manual_seed(0)
    weight = PackedWeight.allocate(n, k, torch.float32)
    weight.fill_rows(0, torch.randn(n, k, generator=generator))
    return torch.randn(rows, k, generator=generator), weight


def test_the_isa_in_use_is_the_one_selected(isa: str) -> None:
    assert runtime.isa() == isa


@needs_native
def test_generic_runs_everywhere() -> None:
    assert runtime.native.available_isas()[-1] == "generic"


@needs_native
def test_the_environment_lowers_the_isa(monkeypatch: pytest.MonkeyPatch) -> None:
    before = runtime.isa()
    monkeypatch.setenv("KVIK_ISA", "generic")
    assert runtime._load().isa() == "generic"
    monkeypatch.setenv("KVIK_ISA", "reference")
    assert runtime._load() is None
    monkeypatch.setenv("KVIK_ISA", "avx9")
    with pytest.raises(ValueError, match=r'"avx9" cannot run here \(KVIK_ISA\); choose one of .*generic'):
        runtime._load()
    runtime.native.select_isa(before)


WITHOUT_NATIVE = """
import sys
sys.modules["kvik._native"] = None  # an import of it now fails as if it had not been built
import torch
from kvik.kernels import runtime
from kvik.kernels.dequantize import dequantize
from kvik.kernels.embedding import embedding
from kvik.kernels.gated_activation import gated_activation
from kvik.kernels.linear import PackedWeight, linear
from kvik.kernels.rms_norm import add_rms_norm, rms_norm

assert runtime.isa() == "reference" and runtime.native is None
runtime.set_num_threads(2)
assert runtime.num_threads() == torch.get_num_threads() == 2
weight = PackedWeight.allocate(3, 2, torch.bfloat16)
weight.fill_rows(1, torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
x = torch.tensor([[1.0, 10.0]])
assert linear(x, weight).tolist() == [[0, 21, 43]]
assert linear(x.bfloat16(), weight).dtype is torch.bfloat16
assert linear(x, weight, x.new_ones(3)).tolist() == [[1, 22, 44]]
ids = torch.tensor([2, 1], dtype=torch.int32)
assert embedding(ids, weight, torch.float32, 2.0).tolist() == [[6, 8], [2, 4]]
assert embedding(ids, weight.data, torch.bfloat16).tolist() == [[3, 4], [1, 2]]
ones = torch.ones(1, 4)
assert torch.allclose(rms_norm(2 * ones, ones[0], 0.0), ones)
residual = ones.clone()
assert torch.allclose(add_rms_norm(ones, residual, ones[0], 0.0, unit_offset=True), 2 * ones) and residual[0, 0] == 2
assert torch.allclose(gated_activation(torch.tensor([[0.0, 100.0, 5.0, 2.0]]), "silu"), torch.tensor([[0.0, 200.0]]))
assert dequantize(torch.arange(4, dtype=torch.uint8), "bf16", 1, 2, torch.float32).shape == (1, 2)
print("all by reference")
"""


def test_without_the_extension_all_runs_on_torch() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", WITHOUT_NATIVE]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "all by reference\n", done.stderr


@needs_native
def test_torch_keeps_one_thread_beside_ours(isa: str) -> None:
    runtime.set_num_threads(3)
    assert (runtime.num_threads(), torch.get_num_threads()) == (3, 1)
    runtime.set_num_threads(1)
    assert runtime.num_threads() == 1


def test_no_threads_are_too_few() -> None:
    with pytest.raises(ValueError, match="num_threads is 0; it must be at least 1"):
        runtime.set_num_threads(0)


def test_callers_in_several_threads_get_their_own_results(isa: str) -> None:
    x, weight = random_linear()
    expected = [linear(x[i:], weight) for i in range(8)]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            results = list(pool.map(lambda i: linear(x[i:], weight), range(8)))
            assert all(torch.equal(a, b) for a, b in zip(results, expected, strict=True))


@needs_native
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_computes_alone_until_it_asks_for_threads(isa: str) -> None:
    x, weight = random_linear()
    expected = linear(x, weight)
    child = os.fork()
    if child == 0:
        is_right = runtime.num_threads() == 1 and torch.equal(linear(x, weight), expected)
        runtime.set_num_threads(2)
        os._exit(0 if is_right and torch.equal(linear(x, weight), expected) else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert torch.equal(linear(x, weight), expected)


@needs_native
@pytest.mark.parametrize("num_bytes", [0, 1, 4096, (2 << 20) - 1, 2 << 20, (5 << 20) + 3])
def test_allocated_memory_is_zeroed_aligned_and_lives_as_long_as_its_views(num_bytes: int) -> None:
    block = runtime.native.allocate(num_bytes)
    assert block.shape == (num_bytes,)
    assert block.dtype is torch.uint8
    assert block.data_ptr() % (4096 if num_bytes < 2 << 20 else 2 << 20) == 0
    assert not block.any()
    view = block[num_bytes // 2 :]
    del block
    view.fill_(7)
    assert (view == 7).all()
