"""What `kvik chat` and `kvik complete` share: flags, the loop over lines, and printing an answer as it comes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from kvik.cli.client import HELP, Answer, Client, ClientArgs
from kvik.cli.help import help_text
from kvik.config.flags import flags_of
from kvik.config.parser import Parser
from kvik.errors import ConfigError

A = TypeVar("A", bound=ClientArgs)
Ask = Callable[[str, Answer], Iterator[str]]


def read_args(cls: type[A], words: Sequence[str], usage: str) -> A | None:
    """The flags of `cls`, or None where help was asked for, and printed."""
    flags = [HELP, *flags_of(cls)]
    try:
        parsed = Parser(flags).parse(words)
        if parsed.positionals:
            raise ConfigError(f"no flag before {parsed.positionals[0]!r}; for one question write --quick TEXT")
    except ConfigError:
        print(f"usage: {usage}", file=sys.stderr)
        raise
    if parsed.help is not None:
        print(help_text(usage, flags, {}, parsed.help))
        return None
    return cls(**parsed.values)


def converse(args: ClientArgs, ask: Ask) -> None:
    """Answer --quick, or line after line of the terminal until its end (Ctrl+D) or Ctrl+C."""
    if args.quick is not None:
        print_answer(args, ask, args.quick)
        return
    while (line := _read_line()) is not None:
        if line:
            print_answer(args, ask, line)


def print_answer(args: ClientArgs, ask: Ask, text: str) -> None:
    answer = Answer()
    for piece in ask(text, answer):
        print(piece, end="", flush=True)
    print(flush=True)
    if args.stats:
        print(answer.stats_line(), file=sys.stderr)


def model_of(args: ClientArgs, client: Client) -> str:
    return args.model_name or client.first_model()


def _read_line() -> str | None:
    try:
        return input("> " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return None
