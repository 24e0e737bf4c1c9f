"""What `kvik chat` and `kvik complete` share: flags, the loop over lines, and printing an answer as it comes."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import TypeVar

from kvik.cli.answer import Answer, Piece
from kvik.cli.client import HELP, Client, ClientArgs
from kvik.cli.help import help_text
from kvik.config.flags import flags_of
from kvik.config.parser import Parser
from kvik.errors import ConfigError, KvikError

A = TypeVar("A", bound=ClientArgs)
Ask = Callable[[str, Answer], Generator[Piece, None, None]]

_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"


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


def converse(args: ClientArgs, ask: Ask, command: Callable[[str], str] | None = None) -> None:
    """Answer --quick, or line after line of the terminal until /quit or its end (Ctrl+D).

    Ctrl+C ends an answer, not the program; nor do errors. `command` takes lines that start with a slash.
    """
    if args.quick is not None:
        print_answer(args, ask, args.quick)
        return
    if sys.stdin.isatty():
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  (from here on, input() has a history and can be edited)
    while (line := _read_line()) is not None and not (command is not None and line in ("/quit", "/exit")):
        if command is not None and line.startswith("/"):
            print(command(line))
        elif line:
            _answer_and_go_on(args, ask, line)


def _answer_and_go_on(args: ClientArgs, ask: Ask, text: str) -> None:
    try:
        print_answer(args, ask, text)
    except KeyboardInterrupt:
        print("\n[stopped]", file=sys.stderr)
    except KvikError as error:
        if not sys.stdin.isatty():
            raise
        print(f"error: {error}", file=sys.stderr)


def print_answer(args: ClientArgs, ask: Ask, text: str) -> None:
    answer = Answer()
    with contextlib.closing(ask(text, answer)) as pieces:  # closed here also when Ctrl+C comes while it prints
        _print_pieces(pieces)
    if args.stats:
        print(answer.stats_line(), file=sys.stderr)


def _print_pieces(pieces: Iterable[Piece]) -> None:
    """Reasoning is dim, with an empty line after it, on a terminal; elsewhere there is the answer alone."""
    is_terminal, is_dim = sys.stdout.isatty(), False
    try:
        for piece in pieces:
            if piece.is_reasoning and not is_terminal:
                continue
            change = _change(is_dim, piece.is_reasoning)
            is_dim = piece.is_reasoning
            print(change + piece.text, end="", flush=True)
    finally:
        if is_dim:  # an answer of reasoning alone, or one that was stopped in it
            print(_PLAIN, end="")
    print(flush=True)


def _change(is_dim: bool, becomes_dim: bool) -> str:
    """What stands between a piece and the next one."""
    if is_dim == becomes_dim:
        return ""
    return _DIM if becomes_dim else f"{_PLAIN}\n\n"


def model_of(args: ClientArgs, client: Client) -> str:
    return args.model_name or client.first_model()


def _read_line() -> str | None:
    """A question; None at the end. A backslash at the end of a line asks for one more."""
    is_terminal, lines = sys.stdin.isatty(), list[str]()
    while True:
        try:
            line = input(("... " if lines else "> ") if is_terminal else "")
        except EOFError:
            if is_terminal:
                print()  # what comes next begins on a line of its own
            return "\n".join(lines).strip() or None
        except KeyboardInterrupt:  # gives up what was typed
            print()
            lines = []
            continue
        lines.append(line.removesuffix("\\"))
        if not line.endswith("\\"):
            return "\n".join(lines).strip()
