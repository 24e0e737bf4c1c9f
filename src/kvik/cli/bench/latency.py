"""`kvik bench latency`: one batch of one shape, from nothing to its last token, again and again, without a server."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from kvik.bench.metrics import percentile
from kvik.bench.progress import Progress
from kvik.cli.bench.flags import check_json_path, read_flags_with_engine, write_json
from kvik.config.flags import flag
from kvik.errors import ConfigError
from kvik.llm import LLM
from kvik.sampling_params import SamplingParams

USAGE = "kvik bench latency [MODEL] [flags]"
PERCENTS = (10, 25, 50, 75, 90, 99)


@dataclass(frozen=True, kw_only=True)
class LatencyArgs:
    """The batch, and how often it runs."""

    input_len: int = flag(32, "tokens of each prompt")
    output_len: int = flag(128, "tokens to generate for each")
    batch_size: int = flag(8, "prompts at once")
    num_iters_warmup: int = flag(10, "runs before, not counted")
    num_iters: int = flag(30, "runs that count")
    disable_detokenize: bool = flag(False, "leave tokens as they are", kind="switch")
    disable_tqdm: bool = flag(False, "no progress bar", kind="switch")
    output_json: str | None = flag(None, "write the numbers to this file")


def run(words: Sequence[str]) -> int:
    asked = read_flags_with_engine(LatencyArgs, words, USAGE)
    if asked is None:
        return 0
    args = asked.own
    check(args)
    # A batch that comes again would be found in the prefix cache, and nothing of its prompts would be measured.
    with LLM(**{"enable_prefix_caching": False, **asked.engine}) as llm:
        latencies_s = measure(llm, args)
    ordered = sorted(latencies_s)
    average_s = sum(ordered) / len(ordered)
    percentiles = {str(p): percentile(ordered, p) for p in PERCENTS}
    print(f"Avg latency: {average_s} seconds")
    for percent, seconds in percentiles.items():
        print(f"{percent}% percentile latency: {seconds} seconds")
    if args.output_json is not None:
        write_json(args.output_json, dict(avg_latency=average_s, latencies=latencies_s, percentiles=percentiles))
    return 0


def check(args: LatencyArgs) -> None:
    """Raises `ConfigError`."""
    for name in ("input_len", "output_len", "batch_size", "num_iters"):
        if getattr(args, name) < 1:
            raise ConfigError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(args, name)}")
    if args.num_iters_warmup < 0:
        raise ConfigError(f"--num-iters-warmup must not be negative, got {args.num_iters_warmup}")
    check_json_path(args.output_json, "--output-json")


def measure(llm: LLM, args: LatencyArgs) -> list[float]:
    """Seconds of each run that counts."""
    draw = random.Random(0)
    vocab_size = llm.tokenizer.vocab_size
    prompts = [[draw.randrange(vocab_size) for _ in range(args.input_len)] for _ in range(args.batch_size)]
    params = SamplingParams(
        max_tokens=args.output_len, ignore_eos=True, temperature=1.0, top_p=1.0, detokenize=not args.disable_detokenize
    )
    seconds: list[float] = []
    with Progress(args.num_iters_warmup + args.num_iters, not args.disable_tqdm) as bar:
        for _ in range(args.num_iters_warmup + args.num_iters):
            started_s = time.perf_counter()
            llm.generate(list(prompts), params, use_tqdm=False)
            seconds.append(time.perf_counter() - started_s)
            bar.advance()
    return seconds[args.num_iters_warmup :]
