"""Prompts from files: ShareGPT's JSON and lines of JSON of one's own. Reads; downloads nothing."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kvik.bench.datasets import Prompt, TextCoder
from kvik.errors import ConfigError

MIN_TOKENS = 4
MAX_PROMPT_TOKENS = 1024
MAX_TOTAL_TOKENS = 2048
"""Conversations of ShareGPT outside these are passed over, as is usual with this dataset."""


def sharegpt_prompts(
    path: Path, tokenizer: TextCoder, num_prompts: int, output_len: int | None, seed: int, shuffle: bool
) -> list[Prompt]:
    """The first question of each conversation; as many output tokens as its answer has, or `output_len`.

    Raises `ConfigError` for a file that is not of this form or has no usable conversation.
    """
    entries = _json(path)
    if not isinstance(entries, list):
        raise ConfigError(f"{path} is no ShareGPT file: it must hold a JSON list of objects with conversations")
    turns = [t for entry in entries if (t := _first_turns(entry)) is not None]
    if shuffle:
        random.Random(seed).shuffle(turns)
    usable = (_sharegpt_prompt(tokenizer, question, answer, output_len) for question, answer in turns)
    return _first(num_prompts, (p for p in usable if p is not None), path)


def custom_prompts(
    path: Path,
    tokenizer: TextCoder,
    num_prompts: int,
    output_len: int,
    seed: int,
    shuffle: bool,
    render: Callable[[str], str],
) -> list[Prompt]:
    """Lines of JSON objects with "prompt" and, where `output_len` is -1, "output_tokens".

    `render` makes what is sent of a prompt, by a chat template for example. Raises `ConfigError`, naming the line.
    """
    lines = [(number, line) for number, line in enumerate(_text(path).splitlines(), 1) if line.strip()]
    if shuffle:
        random.Random(seed).shuffle(lines)
    prompts = (_custom_prompt(path, number, line, tokenizer, output_len, render) for number, line in lines)
    return _first(num_prompts, prompts, path)


def oversampled(prompts: list[Prompt], num_prompts: int, seed: int) -> list[Prompt]:
    """`prompts`, and some of them again until there are `num_prompts`."""
    missing = max(0, num_prompts - len(prompts))
    return prompts + random.Random(seed).choices(prompts, k=missing)


def _first(count: int, prompts: Iterator[Prompt], path: Path) -> list[Prompt]:
    chosen = [prompt for _, prompt in zip(range(count), prompts, strict=False)]
    if not chosen:
        raise ConfigError(f"{path} holds no prompt that could be used")
    return chosen


def _first_turns(entry: Any) -> tuple[str, str] | None:
    turns = entry.get("conversations") if isinstance(entry, dict) else None
    if not isinstance(turns, list) or len(turns) < 2:
        return None
    question, answer = (turn.get("value") if isinstance(turn, dict) else None for turn in turns[:2])
    return (question, answer) if isinstance(question, str) and isinstance(answer, str) else None


def _sharegpt_prompt(tokenizer: TextCoder, question: str, answer: str, output_len: int | None) -> Prompt | None:
    ids = tokenizer.encode(question, add_special_tokens=False)
    wanted = len(tokenizer.encode(answer, add_special_tokens=False)) if output_len is None else output_len
    is_usable = MIN_TOKENS <= len(ids) <= MAX_PROMPT_TOKENS and len(ids) + wanted <= MAX_TOTAL_TOKENS
    if not is_usable or (output_len is None and wanted < MIN_TOKENS):
        return None
    return Prompt(question, len(ids), wanted, tuple(ids))


def _custom_prompt(
    path: Path, number: int, line: str, tokenizer: TextCoder, output_len: int, render: Callable[[str], str]
) -> Prompt:
    where = f"{path}, line {number}"
    try:
        entry = json.loads(line)
    except ValueError as e:
        raise ConfigError(f"{where} is no JSON: {e}") from None
    if not isinstance(entry, dict) or not isinstance(entry.get("prompt"), str):
        raise ConfigError(f'{where} must be an object like {{"prompt": "..."}}')
    wanted = entry.get("output_tokens") if output_len == -1 else output_len
    if not isinstance(wanted, int) or wanted < 1:
        raise ConfigError(f'{where}: --custom-output-len -1 needs "output_tokens", an integer of at least 1')
    text = render(entry["prompt"])
    ids = tokenizer.encode(text, add_special_tokens=False)
    return Prompt(text, len(ids), wanted, tuple(ids))


def _json(path: Path) -> Any:
    try:
        return json.loads(_text(path))
    except ValueError as e:
        raise ConfigError(f"{path} is no JSON: {e}") from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"cannot read --dataset-path {path}: {e}") from None
