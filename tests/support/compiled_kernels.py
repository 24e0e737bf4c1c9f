"""Compiles Triton's kernels for a GPU that is not there: `python compiled_kernels.py 90` for sm_90, a JSON line each.

A process of its own, since triton interprets in the tests' one. Each kernel is called as its wrapper calls it; compiled
it is by Triton's own compiler down to the machine's code, but not launched.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["TRITON_INTERPRET"] = "0"
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from kvik.kernels import launch, runtime
from kvik.kernels.embedding import embedding
from kvik.kernels.gated_activation import gated_activation
from kvik.kernels.linear import FP8_FORMATS, QUANTIZED, PackedWeight, linear
from kvik.kernels.logit_edits import edit_logits
from kvik.kernels.logprobs import top_logprobs
from kvik.kernels.lora import LoraSlots, lora
from kvik.kernels.mask_tokens import mask_tokens
from kvik.kernels.paged_attention import allocate_kv_cache, paged_attention
from kvik.kernels.penalties import count_tokens, penalize
from kvik.kernels.rms_norm import add_rms_norm, rms_norm
from kvik.kernels.rope import rope_and_cache
from kvik.kernels.sample import arg_max, kept_tokens, sample

BF16, FP8 = torch.bfloat16, torch.float8_e4m3fn
CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


class NoDevice:
    """What triton asks of a driver before it launches."""

    def __init__(self, capability: int) -> None:
        self._target = GPUTarget("cuda", capability, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return self._target


def calls(capability: int) -> Iterator[Callable[[], Any]]:
    """Shapes of Llama-3.1-8B, in the dtypes that this capability has: all kernels for sm_90, those with most numbers in
    registers and shared memory for the others."""
    if capability == 90:
        yield from all_calls()
        return
    yield from quantized_calls("q6_k", with_embedding=False)
    yield from quantized_calls("fp8_block", with_embedding=False)
    yield from attention_calls(BF16, BF16, 256)
    yield from attention_calls(BF16, FP8 if capability >= 89 else torch.float8_e5m2, 128)


def all_calls() -> Iterator[Callable[[], Any]]:
    x, weight = torch.zeros(4, 4096, dtype=BF16), torch.zeros(4096, dtype=BF16)
    yield lambda: rms_norm(x, weight, 1e-5)
    yield lambda: add_rms_norm(x, x.clone(), weight, 1e-5, unit_offset=True)
    yield lambda: gated_activation(x, "silu")
    yield lambda: gated_activation(x, "gelu_tanh")
    yield from sampling_calls(torch.zeros(4, 128256), torch.zeros(4))
    yield lambda: embedding(ints(0, 1), torch.zeros(9, 4096, dtype=BF16), BF16)
    yield from lora_calls()
    for format in QUANTIZED:
        yield from quantized_calls(format)
    for format in FP8_FORMATS:
        yield from quantized_calls(format, with_embedding=False)
    for head_dim in (64, 128, 256):
        yield from attention_calls(BF16, BF16, head_dim)
    for cache in (FP8, torch.float8_e5m2):
        yield from attention_calls(BF16, cache, 128)


def sampling_calls(logits: torch.Tensor, rows: torch.Tensor) -> Iterator[Callable[[], Any]]:
    yield lambda: arg_max(logits)
    yield lambda: sample(logits, rows, rows.int(), rows, rows, rows.long(), rows.long())
    yield lambda: kept_tokens(logits, rows, rows.int(), rows, rows)
    yield lambda: mask_tokens(logits, rows.int(), torch.zeros(4, 4008, dtype=torch.int32))
    yield lambda: edit_logits(logits, rows.int(), ints(0, 1, 2, 3, 4), ints(5, 6, 7, 8), rows)
    counts = torch.zeros(4, 128256, dtype=torch.int32)
    yield lambda: penalize(logits, rows.int(), rows.int(), counts, rows, rows, rows)
    yield lambda: count_tokens(counts, rows.int(), rows.int(), rows.long())
    for normalize in (True, False):
        yield lambda n=normalize: top_logprobs(logits, rows.long(), 5, normalize=n)


def attention_calls(dtype: torch.dtype, cache: torch.dtype, head_dim: int) -> Iterator[Callable[[], Any]]:
    k, v = allocate_kv_cache(8, 8, head_dim, 16, cache, device=torch.device("cpu"))
    q, qkv = torch.zeros(4, 32 * head_dim, dtype=dtype), torch.zeros(4, 48 * head_dim, dtype=dtype)
    norm, slots = torch.zeros(head_dim, dtype=dtype), ints(16, 17, 18, -1)
    heads = {"num_heads": 32, "num_kv_heads": 8}
    tables = torch.zeros(4, 4, dtype=torch.int32)
    yield lambda: rope_and_cache(qkv, torch.zeros(9, head_dim), ints(0, 1, 2, 3), slots, k, v, **heads)
    yield lambda: rope_and_cache(
        qkv, torch.zeros(9, head_dim), ints(0, 1, 2, 3), slots, k, v, **heads, q_norm=norm, k_norm=norm
    )
    sizes = {"num_kv_heads": 8, "head_dim": head_dim, "scale": 0.1}
    yield lambda: paged_attention(q, k, v, tables, ints(0, 1, 2, 3, 4), ints(9, 9, 9, 9), **sizes, max_query_len=1)
    for window in (0, 64):
        yield lambda w=window: paged_attention(q, k, v, tables[:1], ints(0, 4), ints(20), **sizes, window=w)


def quantized_calls(format: str, *, with_embedding: bool = True) -> Iterator[Callable[[], Any]]:
    """Rows up to each limit of the files, so that all settings are seen."""
    weight = PackedWeight.allocate(256, 4096, format)
    for rows in (1, 32, 64, 256) if format != "fp8_static" else (1,):  # which differs from fp8 in how inputs are made
        yield lambda rows=rows: linear(torch.zeros(rows, 4096, dtype=BF16), weight)
    if with_embedding:
        yield lambda: embedding(ints(0, 1), weight, BF16)


def lora_calls() -> Iterator[Callable[[], Any]]:
    for max_rank in (16, 64):
        slots = LoraSlots([4096, 1024, 1024], 4096, 2, max_rank, BF16)
        for rows in (1, 64):
            x, out = torch.zeros(rows, 4096, dtype=BF16), torch.zeros(rows, 6144, dtype=BF16)
            yield lambda x=x, out=out, slots=slots: lora(out, x, torch.zeros(len(x), dtype=torch.int32), slots)


def ints(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32)


def main() -> None:
    capability = int(sys.argv[1])
    driver.set_active(NoDevice(capability))
    launch.capability = lambda: divmod(capability, 10)  # type: ignore[assignment]
    compiled: dict[str, Any] = {}

    def without_launch(kernel: JITFunction, grid: Any) -> Callable[..., None]:
        def run(*args: Any, **kwargs: Any) -> None:
            made = kernel.run(*args, grid=grid, warmup=True, **kwargs)
            compiled[made.hash] = made

        return run

    JITFunction.__getitem__ = without_launch
    with runtime.standing_in_for_gpu():
        for call in calls(capability):
            call()
    for made in compiled.values():
        print(json.dumps(facts(made)), flush=True)


def facts(made: Any) -> dict[str, Any]:
    """As the machine's code says: registers of a thread, and bytes of each thread that did not fit them."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        run = subprocess.run([CUOBJDUMP, "-res-usage", file.name], capture_output=True, text=True, check=True)
    registers, stack = re.search(r"REG:(\d+) STACK:(\d+)", run.stdout).groups()
    return {
        "name": made.metadata.name, "num_warps": made.metadata.num_warps, "shared_bytes": made.metadata.shared,
        "registers": int(registers), "spilled_bytes": int(stack),
    }  # fmt: skip


if __name__ == "__main__":
    main()
