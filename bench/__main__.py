"""`python -m bench [--rounds N]`: measure what docs/performance.md promises, and write it there."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench import load
from bench.server import Server, cpu_seconds

DOCUMENT = Path(__file__).parent.parent / "docs" / "performance.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
WORKS = [
    ("1 client, 256 in / 128 out", load.Work(num_requests=4, num_clients=1, input_len=256, output_len=128)),
    ("8 clients, 256 in / 128 out", load.Work(num_requests=16, num_clients=8, input_len=256, output_len=128)),
    ("32 clients, 256 in / 128 out", load.Work(num_requests=64, num_clients=32, input_len=256, output_len=128)),
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


def start_table(rounds: int) -> list[str]:
    """Seconds from launch to ready, and resident memory right then."""
    seconds, api, engine = [], [], []
    for _ in range(rounds):
        with Server(["--no-enable-prefix-caching"]) as server:
            memory = server.memory()
            seconds.append(server.seconds_to_ready)
            api.append(memory.api_bytes)
            engine.append(memory.engine_bytes)
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
    with Server(["--no-enable-prefix-caching"]) as server:
        for name, work in WORKS:
            results, cpu = [], []
            for _ in range(rounds):
                before = cpu_seconds(server.pid)
                results.append(load.run(server.port, "SmolLM2-135M-Instruct", work))
                cpu.append((cpu_seconds(server.pid) - before) * 1000 / (work.num_requests * work.output_len))
            rows.append(f"| {name} | {_medians(results)} | {statistics.median(cpu):.2f} | {_lost(results)} |")
    return rows


def _medians(results: list[load.Result]) -> str:
    def median(field: str) -> float:
        return statistics.median(getattr(r, field) for r in results)

    return " | ".join(f"{median(field):.1f}" for field in ("output_tok_per_s", "ttft_ms", "tpot_ms", "itl_p99_ms"))


def _lost(results: list[load.Result]) -> int:
    return sum(r.num_failed for r in results)


def write(text: str) -> None:
    """Replace what stands between the two marks of the document; the prose around them is written by hand."""
    old = DOCUMENT.read_text()
    before, after = old.partition(BEGIN)[0], old.partition(END)[2]
    DOCUMENT.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


if __name__ == "__main__":
    main()
