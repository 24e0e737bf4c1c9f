"""What clients ask for, and the numbers that come of one run of it. Knows endpoints, not engines."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from bench.texts import quoted_prompt
from kvik.bench.answer import Answer
from kvik.bench.datasets import Prompt, TextCoder, WordSource
from kvik.bench.endpoint import Endpoint
from kvik.bench.load import Load
from kvik.bench.metrics import latencies_s, percentile, summarise
from kvik.bench.run import Run, measure, measure_async, run_loop

Numbers = dict[str, float]
TIMEOUT_S = 900.0
"""Of a request: a server that hangs ends as lost requests, not as a run without end."""


class Traffic(Protocol):
    """One kind of work. The same seed asks for the same."""

    def measure(self, endpoint: Endpoint, tokenizer: TextCoder, seed: int) -> Numbers: ...


@dataclass(frozen=True)
class Closed:
    """Clients that each send their next request when the last one is answered."""

    num_clients: int
    num_prompts: int
    input_len: int
    """Tokens, after the shared prefix."""
    output_len: int
    prefix_len: int = 0
    """Tokens that all prompts share."""
    temperature: float = 0.0
    quotes: bool = False
    """Prompts ask for a source of `input_len` tokens word for word, in place of random words."""

    def measure(self, endpoint: Endpoint, tokenizer: TextCoder, seed: int) -> Numbers:
        prompts = self.prompts(tokenizer, seed)
        endpoint = replace(endpoint, extra_body={"temperature": self.temperature, "ignore_eos": True, "seed": seed})
        load = Load(max_concurrency=self.num_clients)
        answers, duration_s = measure(Run(endpoint, prompts, load, request_timeout_s=TIMEOUT_S))
        return numbers(answers, duration_s)

    def prompts(self, tokenizer: TextCoder, seed: int) -> list[Prompt]:
        words = WordSource(tokenizer, seed)
        if self.quotes:
            texts = (quoted_prompt(tokenizer, self.input_len, words.random) for _ in range(self.num_prompts))
            return [Prompt("", len(ids), self.output_len, tuple(ids)) for ids in texts]
        prefix = words.draw(self.prefix_len)
        drawn = (prefix + words.draw(self.input_len) for _ in range(self.num_prompts))
        return [Prompt("", len(ids), self.output_len, tuple(ids)) for ids in drawn]


@dataclass(frozen=True)
class LongPrompt:
    """Streams that run, and a long prompt that arrives among them. The numbers are those of the streams."""

    num_streams: int
    input_len: int
    output_len: int
    long_input_len: int
    delay_s: float
    """From the streams' start to the long prompt."""

    def measure(self, endpoint: Endpoint, tokenizer: TextCoder, seed: int) -> Numbers:
        endpoint = replace(endpoint, extra_body={"temperature": 0.0, "ignore_eos": True})
        words = WordSource(tokenizer, seed)
        prompts = [words.draw(self.input_len) for _ in range(self.num_streams)]
        streams = [Prompt("", len(ids), self.output_len, tuple(ids)) for ids in prompts]
        late = Prompt("", self.long_input_len, 8, tuple(words.draw(self.long_input_len)))
        answers, duration_s, late_answer = run_loop(self._both(endpoint, streams, late))
        found = numbers(answers, duration_s)
        found["long_ttft_ms"] = 1e3 * late_answer.ttft_s
        found["lost"] += not late_answer.is_success
        return found

    async def _both(
        self, endpoint: Endpoint, streams: Sequence[Prompt], late: Prompt
    ) -> tuple[list[Answer], float, Answer]:
        running = asyncio.create_task(measure_async(Run(endpoint, streams, Load(), request_timeout_s=TIMEOUT_S)))
        await asyncio.sleep(self.delay_s)
        [late_answer], _ = await measure_async(Run(endpoint, [late], Load(), request_timeout_s=TIMEOUT_S))
        answers, duration_s = await running
        return answers, duration_s, late_answer


def numbers(answers: Sequence[Answer], duration_s: float) -> Numbers:
    """One run in figures. Latencies are medians over requests; itl is over all gaps."""
    summary = summarise(answers, duration_s)
    good = [a for a in answers if a.is_success]
    ms = {name: sorted(1e3 * v for v in values) or [0.0] for name, values in latencies_s(good).items()}
    ttft, tpot, itl50, itl99 = (percentile(ms["ttft"], 50), percentile(ms["tpot"], 50), percentile(ms["itl"], 50),
                                percentile(ms["itl"], 99))  # fmt: skip
    input_len = summary.num_input_tokens / max(1, len(good))
    return {
        "output_tok_per_s": summary.output_throughput,
        "total_tok_per_s": summary.total_token_throughput,
        "ttft_ms": ttft,
        "tpot_ms": tpot,
        "itl_p50_ms": itl50,
        "itl_p99_ms": itl99,
        "itl_p99_over_median": itl99 / itl50 if itl50 else 0.0,
        "prefill_tok_per_s": 1e3 * input_len / ttft if ttft else 0.0,
        "decode_tok_per_s": 1e3 / tpot if tpot else 0.0,
        "num_output_tokens": float(summary.num_output_tokens),
        "lost": float(summary.num_failed),
    }
