"""`python -m bench [--rounds N]`: measure what docs/performance.md promises, and write it there."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.engines import Contestant, Installed
from bench.traffic import Closed, Numbers
from kvik.bench.endpoint import Endpoint
from kvik.bench.process import HOST, ServerProcess, cpu_seconds
from kvik.modelfile import embedded_model_path
from kvik.text.tokenizer import Tokenizer

DOCUMENT = Path(__file__).parent.parent / "docs" / "performance.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
KVIK = Contestant("kvik", "kvik", "demo", ("--no-enable-prefix-caching",))
WORKS = [
    ("1 client, 256 in / 128 out", Closed(num_clients=1, num_prompts=4, input_len=256, output_len=128)),
    ("8 clients, 256 in / 128 out", Closed(num_clients=8, num_prompts=16, input_len=256, output_len=128)),
    ("32 clients, 256 in / 128 out", Closed(num_clients=32, num_prompts=64, input_len=256, output_len=128)),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="repeat each measurement and take medians")
    rounds = parser.parse_args().rounds
    lines = [*machine(), "", *start_table(rounds), "", *load_table(rounds)]
    text = "\n".join(lines)
    print(text)
    write(text)


def machine() -> list[str]:
    info = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in info if "model name" in line), "unknown")
    return [f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}."]


def server(folder: str) -> ServerProcess:
    """Not started yet; its log goes into `folder`."""
    return Installed({}, {"demo": embedded_model_path()}).server(KVIK, Path(folder))


def start_table(rounds: int) -> list[str]:
    """Seconds from launch to ready, and resident memory right then."""
    seconds, api, engine = [], [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder, server(folder) as running:
            memory = running.resident_bytes()
            seconds.append(running.seconds_to_ready)
            api.append(memory.pop(running.pid))
            engine.append(sum(memory.values()))
    return [
        "| start, SmolLM2-135M-Instruct | median |",
        "|---|---|",
        f"| launch to ready | {statistics.median(seconds):.2f} s |",
        f"| `import kvik` | {import_seconds():.3f} s |",
        f"| API process, resident | {statistics.median(api) / 1e6:.0f} MB |",
        f"| engine process, resident | {statistics.median(engine) / 1e6:.0f} MB |",
    ]


def import_seconds() -> float:
    code = "import time; t = time.perf_counter(); import kvik; print(time.perf_counter() - t)"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def load_table(rounds: int) -> list[str]:
    rows = [
        "| work | output tok/s | TTFT ms | TPOT ms | ITL p99 ms | API CPU s per 1,000 tokens | lost |",
        "|" + "---|" * 7,
    ]
    tokenizer = Tokenizer.load(embedded_model_path())
    with tempfile.TemporaryDirectory() as folder, server(folder) as running:
        endpoint = Endpoint(HOST, running.port, "/v1/completions", "openai", "m", sends_token_ids=True)
        for name, work in WORKS:
            results, cpu = [], []
            for seed in range(rounds):
                before = cpu_seconds(running.pid)
                results.append(work.measure(endpoint, tokenizer, seed))
                tokens = max(1.0, results[-1]["num_output_tokens"])
                cpu.append((cpu_seconds(running.pid) - before) * 1000 / tokens)
            lost = sum(int(r["lost"]) for r in results)
            rows.append(f"| {name} | {_medians(results)} | {statistics.median(cpu):.2f} | {lost} |")
    return rows


def _medians(results: list[Numbers]) -> str:
    names = ("output_tok_per_s", "ttft_ms", "tpot_ms", "itl_p99_ms")
    return " | ".join(f"{statistics.median(r[name] for r in results):.1f}" for name in names)


def write(text: str) -> None:
    """Replace what stands between the two marks of the document; the prose around them is written by hand."""
    old = DOCUMENT.read_text()
    before, after = old.partition(BEGIN)[0], old.partition(END)[2]
    DOCUMENT.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


if __name__ == "__main__":
    main()
