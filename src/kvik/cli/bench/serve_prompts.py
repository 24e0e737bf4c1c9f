"""From the flags of `kvik bench serve` to its prompts. Sends nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kvik.bench.dataset_files import custom_prompts, oversampled, sharegpt_prompts
from kvik.bench.datasets import Prefixes, Prompt, RandomLengths, prefix_prompts, random_prompts
from kvik.bench.endpoint import CHAT
from kvik.cli.bench.serve_args import ServeBenchArgs
from kvik.errors import ConfigError
from kvik.text.chat_template import ChatTemplate
from kvik.text.tokenizer import Tokenizer


def make_prompts(args: ServeBenchArgs, tokenizer: Tokenizer) -> list[Prompt]:
    """`--num-prompts` of them, or fewer with --no-oversample. Raises `ConfigError`."""
    if args.num_prompts < 1:
        raise ConfigError(f"--num-prompts must be at least 1, got {args.num_prompts}")
    if args.dataset_name == "random":
        return random_prompts(tokenizer, args.num_prompts, _random_lengths(args), args.seed)
    if args.dataset_name == "prefix_repetition":
        return prefix_prompts(tokenizer, args.num_prompts, _prefixes(args), args.seed, not args.disable_shuffle)
    prompts = _from_file(args, tokenizer)
    return prompts if args.no_oversample else oversampled(prompts, args.num_prompts, args.seed)


def _random_lengths(args: ServeBenchArgs) -> RandomLengths:
    return RandomLengths(
        input_len=_or(args.input_len, args.random_input_len),
        output_len=_or(args.output_len, args.random_output_len),
        range_ratio=args.random_range_ratio,
        prefix_len=args.random_prefix_len,
    )


def _prefixes(args: ServeBenchArgs) -> Prefixes:
    if args.input_len is not None:
        raise ConfigError("--input-len does not say how long a shared prefix is; use --prefix-repetition-prefix-len "
                          "and --prefix-repetition-suffix-len")  # fmt: skip
    return Prefixes(
        prefix_len=args.prefix_repetition_prefix_len,
        suffix_len=args.prefix_repetition_suffix_len,
        num_prefixes=args.prefix_repetition_num_prefixes,
        output_len=_or(args.output_len, args.prefix_repetition_output_len),
    )


def _from_file(args: ServeBenchArgs, tokenizer: Tokenizer) -> list[Prompt]:
    if args.dataset_path is None:
        raise ConfigError(f"--dataset-name {args.dataset_name} needs --dataset-path FILE")
    if args.input_len is not None:
        raise ConfigError(f"--input-len: the prompts of {args.dataset_name} have lengths of their own; leave it out")
    path, shuffle = Path(args.dataset_path), not args.disable_shuffle
    if args.dataset_name == "sharegpt":
        output_len = args.sharegpt_output_len if args.output_len is None else args.output_len
        return sharegpt_prompts(path, tokenizer, args.num_prompts, output_len, args.seed, shuffle)
    output_len = _or(args.output_len, args.custom_output_len)
    render = _renderer(args, tokenizer)
    return custom_prompts(path, tokenizer, args.num_prompts, output_len, args.seed, shuffle, render)


def _renderer(args: ServeBenchArgs, tokenizer: Tokenizer) -> Callable[[str], str]:
    """What makes of a custom prompt the text that is sent: the chat template, unless the server applies it."""
    if args.skip_chat_template or args.backend == CHAT or tokenizer.chat_template is None:
        return lambda text: text
    template = ChatTemplate.for_tokenizer(tokenizer)
    return lambda text: template.render([{"role": "user", "content": text}], add_generation_prompt=True)


def _or(given: int | None, default: int) -> int:
    return default if given is None else given
