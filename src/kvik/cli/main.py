"""`kvik COMMAND ...`: finds the command and turns expected errors into one clear line and an exit code.

Knows what the commands are called; each is a module with `run(words) -> exit code`, imported when it is asked for.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from kvik import __version__
from kvik.errors import ConfigError, KvikError

COMMANDS: dict[str, tuple[str, str]] = {
    "serve": ("kvik.cli.serve", "serve a model over the OpenAI-compatible HTTP API"),
    "chat": ("kvik.cli.chat", "chat with a running server"),
    "complete": ("kvik.cli.complete", "let a running server continue texts"),
    "run-batch": ("kvik.cli.run_batch", "answer the requests of a batch file"),
    "plan": ("kvik.cli.plan", "say what a model would take and what would fit, without loading it"),
    "convert": ("kvik.cli.convert", "quantise a model's weights and write the result to disk"),
    "bench": ("kvik.cli.bench.main", "measure a server, the engine, or a start"),
    "top": ("kvik.cli.top.main", "watch a running server in the terminal"),
    "completion": ("kvik.cli.completion", "print a script that completes words in bash, zsh or fish"),
    "collect-env": ("kvik.cli.collect_env", "print what a bug report needs"),
}
"""Name -> module, and what it does."""

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """The console script. `argv` is without the program's name; returns the exit code."""
    return guarded(_dispatch, sys.argv[1:] if argv is None else argv)


def guarded(run: Callable[[list[str]], int], words: Sequence[str]) -> int:
    """Run a door. Errors that kvik raises on purpose end as one line on stderr, without a traceback."""
    try:
        return run(list(words))
    except KvikError as e:
        print(f"kvik: error: {e}", file=sys.stderr)
        return EXIT_USAGE if isinstance(e, ConfigError) else EXIT_FAILURE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output (`| head`) has gone; say nothing at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILURE


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(_help())
        return 0 if words else EXIT_USAGE
    if words[0] in ("-v", "--version"):
        print(__version__)
        return 0
    if words[0] not in COMMANDS:
        raise ConfigError(_unknown(words[0]))
    module = import_module(COMMANDS[words[0]][0])
    code: int = module.run(words[1:])
    return code


def _help() -> str:
    lines = [f"  {name:<12} {about}" for name, (_, about) in COMMANDS.items()]
    return "\n".join(
        ["usage: kvik COMMAND ...", "", *lines, "", "kvik COMMAND --help says more; kvik --version prints the version"]
    )


def _unknown(word: str) -> str:
    import difflib  # here, as only a mistake needs it

    near = difflib.get_close_matches(word, COMMANDS, n=1)
    return f"unknown command {word}" + (f"; did you mean {near[0]}?" if near else f"; there are {', '.join(COMMANDS)}")
