"""`python -m bench.constrained`: what constrained requests cost those beside them.

16 clients stream at once. In every other turn half of them have their answers constrained by a JSON schema; measured is
the time between the tokens of the other half, which ask for the same in all turns.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx

from kvik.bench.process import HOST, ServerProcess, free_port

NUM_CLIENTS = 16
MAX_TOKENS = 128
TAGS = {"type": "array", "items": {"type": "string"}}
ITEM = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "tags": TAGS, "size": {"type": "number"}},
    "required": ["name", "tags", "size"],
    "additionalProperties": False,
}
SCHEMA = {"type": "array", "items": ITEM, "minItems": 100}


def main() -> int:
    args = _parse()
    port = free_port()
    command = [sys.executable, "-m", "kvik", "serve", *args.flags, "--host", HOST, "--port", str(port)]
    with (
        tempfile.TemporaryDirectory(prefix="kvik-constrained-") as folder,
        ServerProcess(command, port, Path(folder) / "log"),
    ):
        gaps_ms, firsts_ms = asyncio.run(_measured(f"http://{HOST}:{port}/v1/completions", args.rounds))
    print(json.dumps(_summary(gaps_ms, firsts_ms), indent=1))
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.constrained", description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("flags", nargs="*", help="of `kvik serve`, after --")
    return parser.parse_args()


Samples = dict[bool, list[float]]
"""Milliseconds, of turns without and with constrained requests."""


async def _measured(url: str, num_rounds: int) -> tuple[Samples, Samples]:
    gaps_ms: Samples = {False: [], True: []}
    firsts_ms: Samples = {False: [], True: []}
    async with httpx.AsyncClient(timeout=120) as client:
        await _turn(client, url, True)  # the first grammar reads the vocabulary
        for _ in range(num_rounds):
            for is_mixed in (False, True):
                streams = await _turn(client, url, is_mixed)
                for free in streams[1::2]:
                    gaps_ms[is_mixed] += [1e3 * (b - a) for a, b in pairwise(free[1:])]
                firsts_ms[is_mixed] += [1e3 * (other[1] - other[0]) for other in streams[::2]]
    return gaps_ms, firsts_ms


async def _turn(client: httpx.AsyncClient, url: str, is_mixed: bool) -> list[list[float]]:
    """Per client the time of its start, then those of its chunks."""
    return await asyncio.gather(*(_stream(client, url, i, is_mixed and i % 2 == 0) for i in range(NUM_CLIENTS)))


async def _stream(client: httpx.AsyncClient, url: str, number: int, is_constrained: bool) -> list[float]:
    body: dict[str, Any] = {"prompt": f"List number {number} of things:", "max_tokens": MAX_TOKENS, "temperature": 0,
                            "ignore_eos": True, "stream": True}  # fmt: skip
    if is_constrained:
        body["structured_outputs"] = {"json": SCHEMA}
    times = [time.perf_counter()]
    async with client.stream("POST", url, json=body) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                times.append(time.perf_counter())
    return times


def _summary(gaps_ms: Samples, firsts_ms: Samples) -> dict[str, float]:
    median = {key: statistics.median(values) for key, values in gaps_ms.items()}
    mean = {key: statistics.fmean(values) for key, values in gaps_ms.items()}
    return {
        "itl_median_ms_alone": median[False],
        "itl_median_ms_beside_constrained": median[True],
        "itl_median_ratio": median[True] / median[False],
        "itl_mean_ratio": mean[True] / mean[False],
        "ttft_median_ms_unconstrained": statistics.median(firsts_ms[False]),
        "ttft_median_ms_constrained": statistics.median(firsts_ms[True]),
    }


if __name__ == "__main__":
    sys.exit(main())
