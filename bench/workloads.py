"""The comparisons by name: who takes part, what is asked of them, and which bar kvik has to clear. Runs nothing."""

from __future__ import annotations

from dataclasses import dataclass

from bench.engines import KVIK, LLAMA, VLLM, Contestant
from bench.traffic import Closed, LongPrompt, Traffic

NGRAM = '{"method": "ngram", "num_speculative_tokens": 8, "prompt_lookup_min": 2, "prompt_lookup_max": 4}'


@dataclass(frozen=True)
class Bar:
    """A bound on one figure, or on its ratio to that of others."""

    metric: str
    of: str
    """Label of the contestant that is judged."""
    against: tuple[str, ...] = ()
    """Labels; the best of those that took part counts. Empty: the bound is on the figure itself."""
    at_least: float | None = None
    at_most: float | None = None

    @property
    def text(self) -> str:
        bound = f"at least {self.at_least:.3g}" if self.at_least is not None else f"at most {self.at_most:.3g}"
        return f"{self.metric}: {bound}" + (f" x {' or '.join(self.against)}" if self.against else "")


@dataclass(frozen=True)
class Workload:
    """One section of the table."""

    name: str
    title: str
    contestants: tuple[Contestant, ...]
    traffic: Traffic | None
    """None: what is measured is the start."""
    shown: tuple[str, ...]
    """Figures that the table has columns for."""
    bars: tuple[Bar, ...] = ()
    is_cold: bool = False
    """Start with nothing of the weights in the file cache."""


KV_MEMORY = ("--kv-cache-memory-bytes", "512M")
"""Room for 32 requests, which the first round has filled: from then on blocks are used again, as in a server that has
run for a while. Memory that nobody ever wrote is dear on a virtual machine (0.7 s for 256 MiB on the one measured)."""


def _kvik(model: str, label: str = KVIK, *flags: str) -> Contestant:
    return Contestant(label, KVIK, model, (*KV_MEMORY, *flags))


SPEED = ("output_tok_per_s", "ttft_ms", "tpot_ms", "itl_p99_ms", "itl_p99_over_median", "lost", "rss_mb",
         "api_cpu_s_per_1000_tokens")  # fmt: skip
SINGLE = ("prefill_tok_per_s", "decode_tok_per_s", "ttft_ms", "tpot_ms", "lost", "rss_mb")
SMOLLM2 = (
    _kvik("smollm2"), _kvik("smollm2", "kvik int8", "--quantization", "int8"),
    Contestant(LLAMA, LLAMA, "smollm2-gguf"), Contestant(VLLM, VLLM, "smollm2"),
)  # fmt: skip
LLAMA_1B = (
    _kvik("llama-1b"), _kvik("llama-1b", "kvik int8", "--quantization", "int8"),
    Contestant(LLAMA, LLAMA, "llama-1b-gguf"), Contestant(VLLM, VLLM, "llama-1b"),
)  # fmt: skip
PREFIX = (_kvik("smollm2"), _kvik("smollm2", "kvik without", "--no-enable-prefix-caching"))
LONG = (  # 9 requests, one of 3,000 tokens: fewer slots for llama-server, and longer ones
    _kvik("smollm2"), Contestant(LLAMA, LLAMA, "smollm2-gguf", ("-np", "9", "-c", str(9 * 4096))),
    Contestant(VLLM, VLLM, "smollm2"),
)  # fmt: skip
SPECULATION = (_kvik("smollm2", "kvik ngram", "--speculative-config", NGRAM), _kvik("smollm2", "kvik without"))


def _same_gguf(model: str) -> tuple[Contestant, ...]:
    return _kvik(model), Contestant(LLAMA, LLAMA, model)


WORKLOADS: tuple[Workload, ...] = (
    Workload(
        "startup", "launch to ready, SmolLM2 bf16", (SMOLLM2[0], *SMOLLM2[2:]), None, ("startup_s", "rss_mb"),
        (Bar("startup_s", KVIK, at_most=3.0), Bar("startup_s", KVIK, (VLLM,), at_most=1 / 25)),
    ),
    Workload(
        "startup-8b", "launch to ready, 8B bf16", (Contestant(KVIK, KVIK, "llama-8b"),), None,
        ("startup_s", "cat_s", "peak_rss_mb"),
        (Bar("startup_over_cat", KVIK, at_most=1.3), Bar("peak_rss_mb", KVIK, at_most=20_000)), is_cold=True,
    ),
    Workload(
        "smollm2-1", "SmolLM2 bf16, 1 client, 256/128", SMOLLM2, Closed(1, 6, 256, 128), SPEED,
        (Bar("tpot_ms", KVIK, (LLAMA,), at_most=1 / 1.3), Bar("tpot_ms", KVIK, (VLLM,), at_most=1 / 2.3)),
    ),
    Workload(
        "smollm2-8", "SmolLM2 bf16, 8 clients, 256/128", SMOLLM2, Closed(8, 24, 256, 128), SPEED,
        (Bar("output_tok_per_s", KVIK, (LLAMA, VLLM), at_least=1.8),),
    ),
    Workload(
        "smollm2-32", "SmolLM2 bf16, 32 clients, 256/128", SMOLLM2, Closed(32, 64, 256, 128), SPEED,
        (
            Bar("output_tok_per_s", KVIK, (VLLM,), at_least=1.5),
            Bar("output_tok_per_s", KVIK, (LLAMA,), at_least=2.2),
            Bar("lost", KVIK, at_most=0),
            Bar("itl_p99_over_median", KVIK, at_most=3),
            Bar("output_tok_per_s", "kvik int8", (VLLM,), at_least=2.1),
        ),
    ),
    Workload(
        "llama-1b-1", "llama-1b bf16, 1 client, 256/64", LLAMA_1B, Closed(1, 3, 256, 64), SPEED,
        (Bar("tpot_ms", KVIK, (LLAMA,), at_most=1.0), Bar("tpot_ms", KVIK, (VLLM,), at_most=0.5)),
    ),
    Workload(
        "llama-1b-8", "llama-1b, 8 clients, 256/64", LLAMA_1B, Closed(8, 16, 256, 64), SPEED,
        (Bar("output_tok_per_s", "kvik int8", (LLAMA, VLLM), at_least=1.6),),
    ),
    Workload(
        "llama-1b-q8_0", "llama-1b Q8_0 GGUF, 1 client, 256/128", _same_gguf("llama-1b-q8_0"), Closed(1, 4, 256, 128),
        SINGLE, (Bar("prefill_tok_per_s", KVIK, (LLAMA,), at_least=2.3),
                 Bar("decode_tok_per_s", KVIK, (LLAMA,), at_least=1.3)),
    ),
    Workload(
        "llama-1b-q4_0", "llama-1b Q4_0 GGUF, 1 client, 256/128", _same_gguf("llama-1b-q4_0"), Closed(1, 4, 256, 128),
        SINGLE, (Bar("prefill_tok_per_s", KVIK, (LLAMA,), at_least=1.7),
                 Bar("decode_tok_per_s", KVIK, (LLAMA,), at_least=1.0)),
    ),
    Workload(
        "demo", "the demo model (SmolLM2 Q4_1 GGUF), 1 client, 256/128", _same_gguf("demo"), Closed(1, 6, 256, 128),
        SINGLE, (Bar("prefill_tok_per_s", KVIK, (LLAMA,), at_least=5.5),
                 Bar("decode_tok_per_s", KVIK, (LLAMA,), at_least=1.6)),
    ),
    Workload(
        "shared-prefix", "30 prompts that share 1,500 tokens, 8 clients", PREFIX,
        Closed(8, 30, 64, 32, prefix_len=1500), SPEED,
        (Bar("output_tok_per_s", KVIK, ("kvik without",), at_least=3.0),),
    ),
    Workload(
        "zero-hits", "30 prompts of 1,564 tokens that share none, 8 clients", PREFIX, Closed(8, 30, 1564, 32),
        SPEED, (Bar("output_tok_per_s", KVIK, ("kvik without",), at_least=0.99),),
    ),
    Workload(
        "long-prompt", "a prompt of 3,000 tokens among 8 streams", LONG,
        LongPrompt(8, 64, 192, 3000, 3.0), ("itl_p50_ms", "itl_p99_ms", "itl_p99_over_median", "long_ttft_ms", "lost"),
        (Bar("itl_p99_over_median", KVIK, at_most=2.5),),
    ),
    Workload(
        "ngram-quotes", "n-gram speculation, 1 client, a summary that quotes its 1,000 tokens", SPECULATION,
        Closed(1, 3, 1000, 256, quotes=True), SPEED,
        (Bar("decode_tok_per_s", "kvik ngram", ("kvik without",), at_least=1.5),),
    ),
    Workload(
        "ngram-free", "n-gram speculation, 1 client, text that does not repeat", SPECULATION,
        Closed(1, 3, 256, 192, temperature=1.0), SPEED,
        (Bar("decode_tok_per_s", "kvik ngram", ("kvik without",), at_least=0.97),),
    ),
)  # fmt: skip
