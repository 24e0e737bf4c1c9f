"""`kvik bench throughput`: many prompts through the engine in this process, all given at once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kvik.bench.dataset_files import oversampled, sharegpt_prompts
from kvik.bench.datasets import Prompt, RandomLengths, random_prompts
from kvik.cli.bench.flags import check_json_path, read_flags_with_engine, write_json
from kvik.config.flags import flag
from kvik.errors import ConfigError
from kvik.llm import LLM
from kvik.sampling_params import SamplingParams
from kvik.text.tokenizer import Tokenizer

USAGE = "kvik bench throughput [MODEL] [flags]"
DEFAULT_INPUT_LEN, DEFAULT_OUTPUT_LEN = 1024, 128


@dataclass(frozen=True, kw_only=True)
class ThroughputArgs:
    """The prompts. --seed is the engine's, and theirs."""

    dataset_name: str = flag("random", "where prompts come from", choices=("random", "sharegpt"))
    dataset_path: str | None = flag(None, "file of sharegpt, JSON")
    num_prompts: int = flag(1000, "prompts in all")
    input_len: int | None = flag(None, f"tokens of a random prompt; unset: {DEFAULT_INPUT_LEN}")
    output_len: int | None = flag(
        None, f"tokens to generate for each; unset: {DEFAULT_OUTPUT_LEN} for random, the answer's for sharegpt"
    )
    random_range_ratio: float = flag(0.0, "random lengths vary evenly from (1 - this) to (1 + this) times")
    random_prefix_len: int = flag(0, "tokens before random prompts, the same for all")
    disable_detokenize: bool = flag(False, "leave tokens as they are", kind="switch")
    disable_tqdm: bool = flag(False, "no progress bar", kind="switch")
    output_json: str | None = flag(None, "write the numbers to this file")


def run(words: Sequence[str]) -> int:
    asked = read_flags_with_engine(ThroughputArgs, words, USAGE)
    if asked is None:
        return 0
    args = asked.own
    check(args)
    with LLM(**asked.engine) as llm:
        prompts = make_prompts(args, llm.tokenizer, int(asked.engine.get("seed", 0)))
        seconds, num_prompt_tokens, num_output_tokens = measure(llm, prompts, args)
    num_tokens = num_prompt_tokens + num_output_tokens
    print(
        f"Throughput: {len(prompts) / seconds:.2f} requests/s, {num_tokens / seconds:.2f} total tokens/s, "
        f"{num_output_tokens / seconds:.2f} output tokens/s"
    )
    print(f"Total num prompt tokens:  {num_prompt_tokens}")
    print(f"Total num output tokens:  {num_output_tokens}")
    if args.output_json is not None:
        fields = dict(elapsed_time=seconds, num_requests=len(prompts), total_num_tokens=num_tokens,
                      total_input_tokens=num_prompt_tokens, total_output_tokens=num_output_tokens,
                      requests_per_second=len(prompts) / seconds, tokens_per_second=num_tokens / seconds)  # fmt: skip
        write_json(args.output_json, fields)
    return 0


def check(args: ThroughputArgs) -> None:
    """Raises `ConfigError`."""
    if args.num_prompts < 1:
        raise ConfigError(f"--num-prompts must be at least 1, got {args.num_prompts}")
    if args.dataset_name == "sharegpt" and args.dataset_path is None:
        raise ConfigError("--dataset-name sharegpt needs --dataset-path FILE")
    if args.dataset_name == "sharegpt" and args.input_len is not None:
        raise ConfigError("--input-len: the prompts of sharegpt have lengths of their own; leave it out")
    check_json_path(args.output_json, "--output-json")


def make_prompts(args: ThroughputArgs, tokenizer: Tokenizer, seed: int) -> list[Prompt]:
    """Raises `ConfigError` for a file that cannot be used."""
    if args.dataset_path is not None and args.dataset_name == "sharegpt":
        path = Path(args.dataset_path)
        prompts = sharegpt_prompts(path, tokenizer, args.num_prompts, args.output_len, seed, shuffle=True)
        return oversampled(prompts, args.num_prompts, seed)
    lengths = RandomLengths(
        input_len=DEFAULT_INPUT_LEN if args.input_len is None else args.input_len,
        output_len=DEFAULT_OUTPUT_LEN if args.output_len is None else args.output_len,
        range_ratio=args.random_range_ratio,
        prefix_len=args.random_prefix_len,
    )
    return random_prompts(tokenizer, args.num_prompts, lengths, seed)


def measure(llm: LLM, prompts: Sequence[Prompt], args: ThroughputArgs) -> tuple[float, int, int]:
    """Seconds, prompt tokens and generated tokens."""
    params = [
        SamplingParams(max_tokens=p.output_len, ignore_eos=True, detokenize=not args.disable_detokenize)
        for p in prompts
    ]
    started_s = time.perf_counter()
    outputs = llm.generate([list(p.token_ids) for p in prompts], params, use_tqdm=not args.disable_tqdm)
    seconds = time.perf_counter() - started_s
    generated = sum(len(answer.token_ids) for output in outputs for answer in output.outputs)
    return seconds, sum(len(p.token_ids) for p in prompts), generated
