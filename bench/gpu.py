"""`python -m bench.gpu [--only NAME ...] [--json FILE]`: the bars for one GPU, measured and printed as one table.

Everything is made on the spot: checkpoints of real shapes with random weights, prompts of random tokens. Each part runs
in a process of its own with a time limit, so that one that fails takes nothing from the others. `--rehearse` goes
through all of it on a CPU with a tiny model: it proves the script, and its figures mean nothing.

Ends with 0 when all was measured, met or not; 1 when something could not be; 2 where there is no GPU.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import importlib.util
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.random_checkpoint import SHAPES, Shape
from kvik.bench.answer import Answer
from kvik.bench.datasets import Prompt
from kvik.bench.endpoint import Endpoint
from kvik.bench.load import Load
from kvik.bench.metrics import percentile
from kvik.bench.process import HOST, ServerProcess, free_port
from kvik.bench.run import Run, measure, measure_async, run_loop
from kvik.platforms.gpus import find_gpus

Figures = dict[str, float]
BUDGET_S = 470
"""Of the whole run; a part gets what is left of it."""


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    device: str
    large: str
    small: str
    """Names of shapes."""
    num_requests: int = 256
    length_range: tuple[int, int] = (100, 1024)
    """Of prompts and of answers, in tokens."""
    decode_len: int = 400
    num_streams: int = 8
    stream_len: int = 500
    long_prompts: tuple[int, ...] = (8000, 8000, 8000, 8000)
    long_every_s: float = 0.7
    prefill_len: int = 4096
    attention: tuple[int, int] = (64, 4096)
    """Requests, tokens of each."""
    copy_bytes: int = 4 << 30
    matrix_side: int = 8192
    max_model_len: int = 16_384
    num_blocks: int | None = None
    """Of the KV cache; None: as many as fit."""


FULL = Sizes("cuda", "llama-3.1-8b", "qwen3-0.6b")
REHEARSAL = Sizes(
    "cpu", "tiny", "tiny", num_requests=6, length_range=(5, 12), decode_len=24, num_streams=2, stream_len=40,
    long_prompts=(100, 100), long_every_s=0.05, prefill_len=128, attention=(2, 64), copy_bytes=1 << 24,
    matrix_side=256, max_model_len=512, num_blocks=256,
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    work: str
    bar: str
    parts: tuple[str, ...]
    judge: Callable[[dict[str, Any]], tuple[str, bool]]
    """Figures of all parts -> what was seen, and whether the bar is met. A KeyError names what is missing."""


# --- the table -----------------------------------------------------------------------------------------


def _at_most(key: str, bar: float, text: str) -> Callable[[dict[str, Any]], tuple[str, bool]]:
    return lambda f: (text.format(f[key]), f[key] <= bar)


def _share(key: str, of: str, bar: float, text: str) -> Callable[[dict[str, Any]], tuple[str, bool]]:
    return lambda f: (text.format(f[key], f[of], f[key] / f[of]), f[key] / f[of] >= bar)


def _offline(size: str) -> Callable[[dict[str, Any]], tuple[str, bool]]:
    def judge(f: dict[str, Any]) -> tuple[str, bool]:
        ours, num_tokens = f[f"offline_{size}_tok_s"], f[f"offline_{size}_num_tokens"]
        sizes = FULL if f["is_full"] else REHEARSAL
        name = sizes.large if size == "large" else sizes.small
        lengths = [(len(ids), count) for ids, count in requests(sizes, name)]
        roofline = num_tokens / roofline_s(SHAPES[name], lengths, f["copy_gb_s"], f["matrix_tflop_s"])
        seen = f"{ours:,.0f} tok/s, {ours / roofline:.0%} of {roofline:,.0f}"
        if f"vllm_{size}_tok_s" not in f:
            return seen, ours >= 0.6 * roofline
        return f"{seen}; vLLM {f[f'vllm_{size}_tok_s']:,.0f}", ours > f[f"vllm_{size}_tok_s"]

    return judge


ROWS = (
    Row("start-cold", "exec to ready, weights in page cache, cold kernel cache", "10 s or less", ("server",),
        _at_most("start_cold_s", 10, "{:.2f} s")),
    Row("start-warm", "exec to ready, the same again", "6 s or less", ("server",),
        _at_most("start_warm_s", 6, "{:.2f} s")),
    Row("decode", "1 stream decode", "270 tok/s", ("server",),
        lambda f: (f"{f['decode_tok_s']:.1f} tok/s", f["decode_tok_s"] >= 270)),
    Row("offline-small", "256 requests of 100-1,024 in / out, Qwen3-0.6B shape", "ahead of vLLM, else 60 % of roofline",
        ("machine", "engine-small", "vllm-small"), _offline("small")),
    Row("offline-large", "256 requests of 100-1,024 in / out, Llama-3.1-8B shape",
        "ahead of vLLM, else 60 % of roofline", ("machine", "engine-large", "vllm-large"), _offline("large")),
    Row("gap", "GPU idle between two decode steps", "0.2 ms or less", ("engine-large",),
        _at_most("gap_ms", 0.2, "{:.3f} ms")),
    Row("attention", "paged attention, decode, 64 x 4,096 tokens", "80 % of copy bandwidth", ("machine",),
        _share("attention_gb_s", "copy_gb_s", 0.8, "{:,.0f} of {:,.0f} GB/s, {:.0%}")),
    Row("prefill", "prefill 4,096 tokens", "60 % of matrix rate", ("machine", "engine-large"),
        _share("prefill_tflop_s", "matrix_tflop_s", 0.6, "{:,.1f} of {:,.1f} TFLOP/s, {:.0%}")),
    Row("itl", "ITL p99 with long prompts arriving", "at most 2 x the median", ("server",),
        lambda f: (f"{f['itl_p99_ms']:.2f} ms, median {f['itl_p50_ms']:.2f} ms",
                   f["itl_p99_ms"] <= 2 * f["itl_p50_ms"])),
)  # fmt: skip
PARTS = ("machine", "server", "engine-large", "engine-small", "vllm-large", "vllm-small")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=[row.name for row in ROWS], help="these rows; default: all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows and raw figures there as well")
    parser.add_argument("--rehearse", action="store_true", help="the whole flow on a CPU with a tiny model")
    parser.add_argument("--folder", type=Path, help="for checkpoints, on a local disk with 20 GB; kept afterwards")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    sizes = REHEARSAL if args.rehearse else FULL
    if args.part is not None:
        print(json.dumps(_RUN[args.part](sizes, args.folder)))
        return 0
    gpus = find_gpus()
    if not args.rehearse and not gpus.visible:
        print(f"no GPU: {gpus.why_none}; nothing was measured. `--rehearse` tries this script on a CPU.")
        return 2
    device = "CPU, rehearsal: figures mean nothing" if args.rehearse else str(gpus.visible[0].name)
    rows = [row for row in ROWS if args.only is None or row.name in args.only]
    with tempfile.TemporaryDirectory(prefix="kvik-bench-") as made:
        figures, failures = run_parts(rows, args.folder or Path(made), is_rehearsal=args.rehearse)
    table = [_line(row, figures, failures, args.rehearse) for row in rows]
    print(f"\n{device}\n\n| work | bar | seen | verdict |\n|---|---|---|---|")
    print("\n".join(f"| {work} | {bar} | {seen} | {verdict} |" for _, work, bar, seen, verdict in table))
    if args.json is not None:
        lines = [dict(zip(("name", "work", "bar", "seen", "verdict"), line, strict=True)) for line in table]
        args.json.write_text(json.dumps({"device": device, "rows": lines, "figures": figures, "failures": failures}))
    return int(any(line[-1] == "not measured" for line in table))


def _line(
    row: Row, figures: dict[str, Any], failures: dict[str, str], is_rehearsal: bool
) -> tuple[str, str, str, str, str]:
    try:
        seen, is_met = row.judge(figures)
    except KeyError as missing:
        why = "; ".join(failures[part] for part in row.parts if part in failures) or f"no figure {missing}"
        return row.name, row.work, row.bar, why, "not measured"
    return row.name, row.work, row.bar, seen, "rehearsed" if is_rehearsal else "met" if is_met else "MISSED"


def run_parts(rows: Sequence[Row], folder: Path, *, is_rehearsal: bool) -> tuple[dict[str, Any], dict[str, str]]:
    """Figures of all parts that the rows need, and why a part gave none."""
    sizes = REHEARSAL if is_rehearsal else FULL
    wanted = [part for part in PARTS if any(part in row.parts for row in rows)]
    if importlib.util.find_spec("vllm") is None:
        wanted = [part for part in wanted if not part.startswith("vllm")]
    deadline_s = time.monotonic() + BUDGET_S
    figures: dict[str, Any] = {"is_full": not is_rehearsal}
    failures: dict[str, str] = {}
    _make_checkpoints(sizes, folder, with_weights="server" in wanted)
    for part in wanted:
        print(f"{part} ...", file=sys.stderr, flush=True)
        flags = ["--part", part, "--folder", str(folder), *(["--rehearse"] if is_rehearsal else [])]
        started_s = time.monotonic()
        try:
            figures |= json.loads(_python("bench.gpu", *flags, timeout_s=deadline_s - started_s).splitlines()[-1])
        except (subprocess.SubprocessError, ValueError, IndexError) as error:
            failures[part] = _reason(part, error)
            print(failures[part], file=sys.stderr)
        figures[f"{part}_took_s"] = round(time.monotonic() - started_s, 1)
    return figures, failures


def _make_checkpoints(sizes: Sizes, folder: Path, *, with_weights: bool) -> None:
    """Weights are read from disk by the server only; elsewhere they are made up by --load-format dummy."""
    for name in dict.fromkeys((sizes.large, sizes.small)):
        flags = [] if with_weights and name == sizes.large else ["--config-only"]
        if not (folder / name / ("config.json" if flags else "model.safetensors")).exists():
            print(f"writing {name} ...", file=sys.stderr, flush=True)
            _python("bench.random_checkpoint", name, str(folder / name), *flags, timeout_s=BUDGET_S)


def _python(module: str, *arguments: str, timeout_s: float) -> str:
    """Standard output of `python -m module`; its log goes where ours goes if it fails."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], capture_output=True, text=True, timeout=max(1.0, timeout_s),
        env={**os.environ, "KVIK_LOGGING_LEVEL": "WARNING"}, check=True,
    )  # fmt: skip
    return done.stdout


def _reason(part: str, error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        lines = [line for line in (error.stderr or "").splitlines() if line.strip()]
        print(error.stderr, file=sys.stderr)
        return f"{part}: {lines[-1].replace('|', '/') if lines else 'it ended without a word'}"
    return f"{part}: {type(error).__name__}: {error}".replace("|", "/")


# --- the machine, and one kernel -----------------------------------------------------------------------


def machine(sizes: Sizes, folder: Path) -> Figures:
    """What memory and matrix units do at most, and the attention kernel beside it."""
    import torch

    place = torch.device(sizes.device)
    source = torch.zeros(sizes.copy_bytes // 2, dtype=torch.uint8, device=place)
    target = torch.empty_like(source)
    copy_s = _median_s(lambda: target.copy_(source), place)
    dtype = torch.bfloat16 if place.type == "cuda" else torch.float32
    a, b = (torch.randn(sizes.matrix_side, sizes.matrix_side, device=place).to(dtype) for _ in range(2))
    matrix_s = _median_s(lambda: a @ b, place)
    return {
        "copy_gb_s": 2 * source.nbytes / copy_s / 1e9,
        "matrix_tflop_s": 2 * sizes.matrix_side**3 / matrix_s / 1e12,
        "attention_gb_s": _attention_gb_s(sizes, place, dtype),
    }


def _attention_gb_s(sizes: Sizes, place: Any, dtype: Any) -> float:
    """Bytes of keys and values over the time of one layer's attention, of the large model."""
    import torch

    from kvik.kernels.paged_attention import allocate_kv_cache, paged_attention

    shape, (num_requests, length), block = SHAPES[sizes.large], sizes.attention, 16
    width = -(-length // block)
    on = place if place.type == "cuda" else None  # on a CPU the layout is another
    k, v = allocate_kv_cache(num_requests * width + 1, shape.num_kv_heads, shape.head_dim, block, dtype, device=on)
    k.copy_(torch.randn(k.shape[-2:], device=place).expand(k.shape))
    v.copy_(torch.randn(v.shape[-2:], device=place).expand(v.shape))
    order = torch.randperm(num_requests * width, generator=torch.Generator().manual_seed(0)) + 1
    tables = order.view(num_requests, width).int().to(place)
    starts = torch.arange(num_requests + 1, dtype=torch.int32, device=place)
    lengths = torch.full((num_requests,), length, dtype=torch.int32, device=place)
    q = torch.randn(num_requests, shape.num_heads * shape.head_dim, device=place).to(dtype)

    def attend() -> None:
        paged_attention(
            q, k, v, tables, starts, lengths, num_kv_heads=shape.num_kv_heads, head_dim=shape.head_dim,
            scale=shape.head_dim**-0.5, max_query_len=1,
        )  # fmt: skip

    num_bytes = 2 * num_requests * length * shape.num_kv_heads * shape.head_dim * k.element_size()
    return num_bytes / _median_s(attend, place) / 1e9


_CALLS_AT_ONCE = 10
"""Queued behind each other, so that the device need not wait for the host to launch the next one."""


def _median_s(work: Callable[[], object], place: Any, num_tries: int = 12) -> float:
    """Median seconds of one call, the device's own clock; the first ones compile and warm up."""
    import torch

    for _ in range(3):
        work()
    times = []
    for _ in range(num_tries):
        if place.type != "cuda":
            started = time.perf_counter()
            work()
            times.append(time.perf_counter() - started)
            continue
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
        begin.record()
        for _ in range(_CALLS_AT_ONCE):
            work()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 1e3 / _CALLS_AT_ONCE)
    return statistics.median(times)


# --- the server ----------------------------------------------------------------------------------------


def server(sizes: Sizes, folder: Path) -> Figures:
    """Two starts, the first with an empty cache of kernels; then one stream, and streams with long prompts between."""
    caches = folder / "caches"
    shutil.rmtree(caches, ignore_errors=True)
    _read_through(folder / sizes.large / "model.safetensors")
    with _serving(sizes, folder, caches) as endpoint:
        cold_s = _seconds_to_ready(endpoint.port)
    with _serving(sizes, folder, caches) as endpoint:
        warm_s = _seconds_to_ready(endpoint.port)
        return {"start_cold_s": cold_s, "start_warm_s": warm_s, **_decode(sizes, endpoint), **_itl(sizes, endpoint)}


@contextmanager
def _serving(sizes: Sizes, folder: Path, caches: Path) -> Iterator[Endpoint]:
    port = free_port()
    command = [
        sys.executable, "-m", "kvik", "serve", str(folder / sizes.large), "--device", sizes.device, "--dtype",
        "bfloat16", "--max-model-len", str(sizes.max_model_len), "--no-enable-prefix-caching", "--served-model-name",
        "m", "--host", HOST, "--port", str(port),
    ]  # fmt: skip
    if sizes.num_blocks is not None:
        command += ["--num-gpu-blocks-override", str(sizes.num_blocks)]
    env = {"KVIK_CACHE_ROOT": str(caches), "KVIK_LOGGING_LEVEL": "INFO"}
    with ServerProcess(command, port, folder / "server.log", env=env, ready_timeout_s=180):
        yield Endpoint(HOST, port, "/v1/completions", "openai", "m", sends_token_ids=True,
                       extra_body={"temperature": 0.0, "ignore_eos": True})  # fmt: skip


def _read_through(path: Path) -> None:
    """So that it is in the system's cache, if that is large enough."""
    piece = bytearray(16 << 20)
    with path.open("rb", buffering=0) as file:
        while file.readinto(piece):
            pass


def _seconds_to_ready(port: int) -> float:
    """From the beginning of the process, as the server itself counts."""
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    connection.request("GET", "/startup")
    startup = json.loads(connection.getresponse().read())
    connection.close()
    for phase in startup["phases"]:
        print(f"  {phase['process']:12} {phase['name']:32} {phase['start_s']:7.2f} {phase['end_s'] or 0:7.2f}",
              file=sys.stderr)  # fmt: skip
    return float(startup["elapsed_s"])


def _decode(sizes: Sizes, endpoint: Endpoint) -> Figures:
    prompts = [_prompt(sizes, 32, sizes.decode_len, seed) for seed in range(3)]
    answers = _sound(measure(Run(endpoint, prompts, Load(max_concurrency=1)))[0])
    return {"decode_tok_s": 1 / statistics.median(a.tpot_s for a in answers[1:] if a.tpot_s is not None)}


def _itl(sizes: Sizes, endpoint: Endpoint) -> Figures:
    """Streams that decode, and long prompts that come one after another while they do."""
    streams = [_prompt(sizes, 32, sizes.stream_len, seed) for seed in range(sizes.num_streams)]

    async def both() -> list[Answer]:
        running = asyncio.create_task(measure_async(Run(endpoint, streams, Load())))
        for seed, length in enumerate(sizes.long_prompts, start=100):
            await asyncio.sleep(sizes.long_every_s)
            _sound((await measure_async(Run(endpoint, [_prompt(sizes, length, 2, seed)], Load())))[0])
        return _sound((await running)[0])

    gaps_ms = sorted(1e3 * gap for answer in run_loop(both()) for gap in answer.itl_s)
    return {"itl_p50_ms": percentile(gaps_ms, 50), "itl_p99_ms": percentile(gaps_ms, 99)}


def _sound(answers: list[Answer]) -> list[Answer]:
    for answer in answers:
        if not answer.is_success:
            raise RuntimeError(f"a request failed: {answer.error}")
    return answers


def _prompt(sizes: Sizes, input_len: int, output_len: int, seed: int) -> Prompt:
    return Prompt("", input_len, output_len, tuple(_ids(SHAPES[sizes.large], input_len, random.Random(seed))))


def _ids(shape: Shape, count: int, draw: random.Random) -> list[int]:
    return [draw.randrange(10, shape.vocab_size) for _ in range(count)]


# --- the engine without a server -----------------------------------------------------------------------


def engine_large(sizes: Sizes, folder: Path) -> Figures:
    with _engine(sizes, folder, sizes.large) as llm:
        return {**_gap(sizes, llm), **_prefill(sizes, llm), **_batch(sizes, llm, sizes.large, "large")}


def engine_small(sizes: Sizes, folder: Path) -> Figures:
    with _engine(sizes, folder, sizes.small) as llm:
        return _batch(sizes, llm, sizes.small, "small")


def _engine(sizes: Sizes, folder: Path, name: str) -> Any:
    os.environ["KVIK_CACHE_ROOT"] = str(folder / "caches")
    from kvik import LLM

    return LLM(
        str(folder / name), load_format="dummy", dtype="bfloat16", device=sizes.device, enable_prefix_caching=False,
        max_model_len=min(sizes.max_model_len, 8192), max_num_seqs=sizes.num_requests,
        num_gpu_blocks_override=sizes.num_blocks,
        max_num_batched_tokens=max(512, 2 * sizes.prefill_len),
    )  # fmt: skip


def _generate_s(llm: Any, prompts: Sequence[tuple[list[int], int]]) -> float:
    """Seconds to answer all, each (token ids, output tokens)."""
    from kvik import SamplingParams

    params = [SamplingParams(temperature=0.0, max_tokens=count, ignore_eos=True) for _, count in prompts]
    started = time.perf_counter()
    outputs = llm.generate([{"prompt_token_ids": ids} for ids, _ in prompts], params, use_tqdm=False)
    seconds = time.perf_counter() - started
    found, wanted = [len(output.outputs[0].token_ids) for output in outputs], [count for _, count in prompts]
    if found != wanted:
        raise RuntimeError(f"answers of {sum(found)} tokens, {sum(wanted)} were asked for")
    return seconds


def requests(sizes: Sizes, name: str) -> list[tuple[list[int], int]]:
    """(token ids, output tokens) of each; the same in every process."""
    draw, (least, most) = random.Random(7), sizes.length_range
    return [
        (_ids(SHAPES[name], draw.randint(least, most), draw), draw.randint(least, most))
        for _ in range(sizes.num_requests)
    ]


def _batch(sizes: Sizes, llm: Any, name: str, key: str) -> Figures:
    wanted = requests(sizes, name)
    _generate_s(llm, [(ids, 8) for ids, _ in wanted[: max(2, len(wanted) // 4)]])
    num_tokens = sum(count for _, count in wanted)
    return {
        f"offline_{key}_tok_s": num_tokens / _generate_s(llm, wanted),
        f"offline_{key}_num_tokens": num_tokens,
    }


def _prefill(sizes: Sizes, llm: Any) -> Figures:
    shape, length = SHAPES[sizes.large], sizes.prefill_len
    times = [_generate_s(llm, [(_ids(shape, length, random.Random(seed)), 1)]) for seed in range(6)]
    head = shape.vocab_size * shape.hidden_size  # for the last token alone
    attention = 2 * length**2 * shape.num_heads * shape.head_dim * shape.num_layers  # half of it is masked
    flop = 2 * (shape.num_matrix_weights - head) * length + 2 * head + attention
    return {"prefill_tflop_s": flop / statistics.median(times[2:]) / 1e12, "prefill_s": statistics.median(times[2:])}


def _gap(sizes: Sizes, llm: Any) -> Figures:
    """One stream under the profiler: what of a step no kernel runs in."""
    from torch.profiler import ProfilerActivity, profile

    on_gpu = sizes.device == "cuda"
    ids = _ids(SHAPES[sizes.large], 32, random.Random(1))
    num_steps = sizes.decode_len // 4
    _generate_s(llm, [(ids, num_steps)])
    with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as profiler:
        _generate_s(llm, [(ids, num_steps)])
    spans = [
        (event.time_range.start, event.time_range.end)
        for event in profiler.events()
        if not on_gpu or "cuda" in str(event.device_type).lower()
    ]
    return {"gap_ms": idle_per_step_us(spans, num_steps) / 1e3}


def idle_per_step_us(spans: Sequence[tuple[float, float]], num_steps: int) -> float:
    """Median of the `num_steps - 1` longest spans in which nothing runs: those between steps, for within a step one
    piece of work follows the other. Takes (start, end) of pieces of work in any order, some of them side by side."""
    gaps, busy_until = [], None
    for start, end in sorted(spans):
        if busy_until is not None and start > busy_until:
            gaps.append(start - busy_until)
        busy_until = end if busy_until is None else max(busy_until, end)
    if len(gaps) < num_steps - 1:
        raise RuntimeError(f"the profiler saw {len(gaps)} gaps in {num_steps} steps: it cannot tell them apart")
    return statistics.median(sorted(gaps)[-(num_steps - 1) :])


def roofline_s(shape: Shape, lengths: Sequence[tuple[int, int]], copy_gb_s: float, matrix_tflop_s: float) -> float:
    """The least seconds for requests of (input, output) tokens that all run at once: prompts at the matrix rate, each
    step then as long as reading weights and keys, or as its products, take."""
    prompt_flop = 2 * shape.num_matrix_weights * sum(length for length, _ in lengths)
    total_s = prompt_flop / (matrix_tflop_s * 1e12)
    for step in range(1, max(count for _, count in lengths)):
        held = [length + step for length, count in lengths if count > step]
        num_bytes = 2 * shape.num_matrix_weights + shape.kv_bytes_per_token * sum(held)
        flop = 2 * shape.num_matrix_weights * len(held)
        total_s += max(num_bytes / (copy_gb_s * 1e9), flop / (matrix_tflop_s * 1e12))
    return total_s


def vllm(sizes: Sizes, folder: Path, name: str, key: str) -> Figures:
    """The same requests, where it is installed beside us."""
    engine = importlib.import_module("vllm")
    llm = engine.LLM(model=str(folder / name), load_format="dummy", dtype="bfloat16", max_num_seqs=sizes.num_requests,
                     max_model_len=min(sizes.max_model_len, 8192), enable_prefix_caching=False)  # fmt: skip
    wanted = requests(sizes, name)
    for rounds in (wanted[: len(wanted) // 4], wanted):
        params = [engine.SamplingParams(temperature=0.0, max_tokens=count, ignore_eos=True) for _, count in rounds]
        started = time.perf_counter()
        llm.generate([{"prompt_token_ids": ids} for ids, _ in rounds], params, use_tqdm=False)
        seconds = time.perf_counter() - started
    return {f"vllm_{key}_tok_s": sum(count for _, count in wanted) / seconds}


_RUN: dict[str, Callable[[Sizes, Path], Figures]] = {
    "machine": machine,
    "server": server,
    "engine-large": engine_large,
    "engine-small": engine_small,
    "vllm-large": lambda sizes, folder: vllm(sizes, folder, sizes.large, "large"),
    "vllm-small": lambda sizes, folder: vllm(sizes, folder, sizes.small, "small"),
}

if __name__ == "__main__":
    sys.exit(main())
