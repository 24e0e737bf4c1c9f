"""`kvik bench serve`: prompts at a rate against a running server, and what its clients would have felt.

Any server with the OpenAI-compatible API will do. Imports neither torch nor an engine.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kvik.bench.answer import Answer
from kvik.bench.endpoint import CHAT, Endpoint
from kvik.bench.load import Load
from kvik.bench.metrics import parse_goodput, parse_metrics, parse_percents, summarise
from kvik.bench.plot import check_plot, draw
from kvik.bench.report import detailed_fields, failure_lines, report, result_fields
from kvik.bench.run import Run, measure, probe, run_loop
from kvik.cli.bench.flags import read_flags, write_json
from kvik.cli.bench.serve_args import ServeBenchArgs
from kvik.cli.bench.serve_target import find_server, name_values
from kvik.errors import ConfigError, KvikError

USAGE = "kvik bench serve [flags]"


def run(words: Sequence[str]) -> int:
    """Exit code 1 where not a single request succeeded."""
    args = read_flags(ServeBenchArgs, words, USAGE)
    if args is None:
        return 0
    asked = check(args)
    endpoint, tokenizer_path = find_server(args)
    from kvik.cli.bench.serve_prompts import make_prompts
    from kvik.text.tokenizer import Tokenizer

    prompts = make_prompts(args, Tokenizer.load(tokenizer_path))
    if args.ready_check_timeout_sec > 0:
        _wait_for_answer(endpoint, prompts, args.ready_check_timeout_sec)
    what = Run(endpoint, prompts, asked.load, args.seed, args.num_warmups, args.request_timeout_sec)
    answers, duration_s = measure(what, is_shown=not args.disable_tqdm)
    return _tell(args, asked, endpoint, tokenizer_path, answers, duration_s)


class Checked:
    """The flags whose words have a meaning of their own, read before anything is sent."""

    def __init__(self, args: ServeBenchArgs) -> None:
        self.load = Load(args.request_rate, args.burstiness, args.max_concurrency)
        self.metrics = parse_metrics(args.percentile_metrics)
        self.percents = parse_percents(args.metric_percentiles)
        self.goodput_ms = parse_goodput(args.goodput)
        self.metadata = name_values("--metadata", args.metadata)


def check(args: ServeBenchArgs) -> Checked:
    """Raises `ConfigError` for what cannot be, so that no run is lost for a word at its end."""
    checked = Checked(args)
    if args.plot is not None:
        check_plot(Path(args.plot))
    if args.prompt_token_ids and args.backend == CHAT:
        raise ConfigError("--prompt-token-ids: a chat message is text; use --backend openai")
    if args.result_dir is not None and not Path(args.result_dir).is_dir():
        raise ConfigError(f"--result-dir {args.result_dir}: there is no such folder")
    if args.num_warmups < 0 or args.ready_check_timeout_sec < 0:
        raise ConfigError("--num-warmups and --ready-check-timeout-sec must not be negative")
    return checked


def _wait_for_answer(endpoint: Endpoint, prompts: Sequence[Any], timeout_s: float) -> None:
    deadline_s = time.monotonic() + timeout_s
    prompt = replace(prompts[0], output_len=1)
    while (error := run_loop(probe(endpoint, prompt, timeout_s)).error) and time.monotonic() < deadline_s:
        time.sleep(1)
    if error:
        raise KvikError(f"no answer within --ready-check-timeout-sec {timeout_s:g}: {error}")


def _tell(
    args: ServeBenchArgs, asked: Checked, endpoint: Endpoint, tokenizer: str, answers: list[Answer], duration_s: float
) -> int:
    """Print, save and draw; the exit code."""
    summary = summarise(answers, duration_s, asked.percents, asked.goodput_ms)
    print(report(summary, asked.load, asked.metrics))
    for line in failure_lines(answers):
        print(line, file=sys.stderr)
    if args.save_result or args.save_detailed:
        settings = _settings(args, asked, endpoint, tokenizer)
        fields = settings | result_fields(summary, answers) | {"latencies": [a.latency_s for a in answers]}
        path = Path(args.result_dir or ".") / (args.result_filename or _file_name(args, settings))
        write_json(path, fields | (detailed_fields(answers) if args.save_detailed else {}))
        print(f"saved {path}", file=sys.stderr)
    if args.plot is not None:
        draw(Path(args.plot), answers, *_titles(args, endpoint, answers, summary.output_throughput))
        print(f"saved {args.plot}", file=sys.stderr)
    return 0 if summary.num_completed else 1


def _settings(args: ServeBenchArgs, asked: Checked, endpoint: Endpoint, tokenizer: str) -> dict[str, Any]:
    rate = args.request_rate
    return {
        "date": time.strftime("%Y%m%d-%H%M%S"),
        "endpoint_type": args.backend,
        "backend": args.backend,
        "label": args.label,
        "model_id": endpoint.model,
        "tokenizer_id": tokenizer,
        "num_prompts": args.num_prompts,
        "dataset_name": args.dataset_name,
        "seed": args.seed,
        "request_rate": rate if rate < float("inf") else "inf",
        "burstiness": args.burstiness,
        "max_concurrency": args.max_concurrency,
        **asked.metadata,
    }


def _file_name(args: ServeBenchArgs, settings: dict[str, Any]) -> str:
    concurrency = f"-concurrency{args.max_concurrency}" if args.max_concurrency else ""
    model = Path(settings["model_id"]).name
    return f"{args.label or args.backend}-{args.request_rate}qps{concurrency}-{model}-{settings['date']}.json"


def _titles(args: ServeBenchArgs, endpoint: Endpoint, answers: Sequence[Answer], tok_per_s: float) -> tuple[str, str]:
    """The workload in a line, and what came of it in another."""
    good = [a for a in answers if a.is_success]
    count = max(1, len(good))
    num_in, num_out = sum(a.num_prompt_tokens for a in good), sum(a.num_output_tokens for a in good)
    lengths = f"{num_in // count} in / {num_out // count} out"
    clients = f"{args.max_concurrency} clients" if args.max_concurrency else "all at once"
    rate = f"{args.request_rate:g} requests/s" if args.request_rate < float("inf") else clients
    title = f"{args.label or endpoint.model}: {len(answers)} requests, {rate}, {lengths} tokens on average"
    lost = f", {len(answers) - len(good)} lost" if len(good) < len(answers) else ""
    return title, f"dataset {args.dataset_name}; {tok_per_s:.1f} output tokens/s{lost}"
