"""A load generator for any OpenAI-compatible server, small enough not to take the server's cores.

Streams `/v1/completions` for prompts of random token ids and records when each chunk came.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Work:
    """What the clients ask for, all together."""

    num_requests: int
    num_clients: int
    input_len: int
    """Prompt tokens per request."""
    output_len: int
    """Generated tokens per request; the end token is ignored."""
    vocab_size: int = 49152
    seed: int = 1

    def prompts(self) -> list[list[int]]:
        draw = random.Random(self.seed)
        return [[draw.randrange(100, self.vocab_size) for _ in range(self.input_len)] for _ in range(self.num_requests)]


@dataclass
class Timeline:
    """One request: when it was sent and when each chunk came, seconds."""

    sent_s: float
    chunks_s: list[float] = field(default_factory=list)

    @property
    def ttft_s(self) -> float:
        return self.chunks_s[0] - self.sent_s

    @property
    def gaps_s(self) -> list[float]:
        return [b - a for a, b in zip(self.chunks_s, self.chunks_s[1:], strict=False)]


@dataclass(frozen=True)
class Result:
    """Medians over requests; `output_tok_per_s` is all generated tokens over the whole time."""

    output_tok_per_s: float
    ttft_ms: float
    tpot_ms: float
    itl_p99_ms: float
    num_failed: int


def run(port: int, model: str, work: Work) -> Result:
    return asyncio.run(_run(port, model, work))


async def _run(port: int, model: str, work: Work) -> Result:
    waiting = work.prompts()
    done: list[Timeline] = []
    num_failed = 0

    async def client() -> None:
        nonlocal num_failed
        while waiting:
            try:
                done.append(await _stream(port, model, waiting.pop(), work.output_len))
            except (OSError, asyncio.IncompleteReadError, RuntimeError):
                num_failed += 1

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(work.num_clients)))
    return summarise(done, time.perf_counter() - started, num_failed, work)


def summarise(done: list[Timeline], seconds: float, num_failed: int, work: Work) -> Result:
    gaps = sorted(gap for timeline in done for gap in timeline.gaps_s)
    per_token = [(t.chunks_s[-1] - t.chunks_s[0]) / (work.output_len - 1) for t in done]
    return Result(
        output_tok_per_s=len(done) * work.output_len / seconds,
        ttft_ms=1e3 * statistics.median(t.ttft_s for t in done),
        tpot_ms=1e3 * statistics.median(per_token),
        itl_p99_ms=1e3 * gaps[min(len(gaps) - 1, int(len(gaps) * 0.99))],
        num_failed=num_failed,
    )


async def _stream(port: int, model: str, prompt: list[int], output_len: int) -> Timeline:
    body = json.dumps(
        dict(model=model, prompt=prompt, max_tokens=output_len, temperature=0, ignore_eos=True, stream=True)
    ).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    timeline = Timeline(time.perf_counter())
    writer.write(head.encode() + b"\r\nConnection: close\r\n\r\n" + body)
    try:
        status = await reader.readline()
        if b" 200 " not in status:
            raise RuntimeError(f"the server answered {status!r}")
        async for line in reader:
            if line.startswith(b"data: {"):
                timeline.chunks_s.append(time.perf_counter())
        if not timeline.chunks_s:
            raise RuntimeError("the stream ended without a chunk")
        return timeline
    finally:
        writer.close()
