"""`kvik top [URL]`: flags, and the terminal's library, which is an extra and imported only here."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from kvik.cli.client import HELP
from kvik.cli.help import help_text
from kvik.cli.top.source import Source
from kvik.config import env
from kvik.config.flags import Flag, flag, flags_of
from kvik.config.parser import Parser
from kvik.errors import ConfigError

USAGE = "kvik top [URL] [flags]"
INSTALL = "pip install 'kvik[top]'"


@dataclass(frozen=True, kw_only=True)
class TopArgs:
    host: str | None = flag(None, "the server's host, where no URL is given; unset: localhost")
    port: int | None = flag(None, "its port, where no URL is given; unset: 8000")
    api_key: str | None = flag(None, "key of the server; unset: KVIK_API_KEY")
    interval: float = flag(1.0, "seconds between two looks at the server")


def top_flags() -> tuple[Flag, ...]:
    return (HELP, *flags_of(TopArgs))


def run(words: Sequence[str]) -> int:
    flags = top_flags()
    parsed = Parser(flags).parse(words)
    if parsed.help is not None:
        print(help_text(USAGE, flags, {}, parsed.help))
        return 0
    args = TopArgs(**parsed.values)
    source = Source(address_of(args, parsed.positionals), args.api_key or env.api_key())
    if not 0.1 <= args.interval <= 3600:
        raise ConfigError(f"--interval is between 0.1 and 3600 seconds, got {args.interval:g}")
    _check_terminal()
    from kvik.cli.top.app import TopApp

    TopApp(source, args.interval).run()
    return 0


def address_of(args: TopArgs, positionals: Sequence[str]) -> str:
    """URL, or --host and --port. Raises `ConfigError` where both are given, or several addresses."""
    if len(positionals) > 1:
        raise ConfigError(f"one URL, please; got {', '.join(positionals)}")
    if not positionals:
        host = args.host or "localhost"
        return f"http://{f'[{host}]' if ':' in host else host}:{args.port or 8000}"
    if args.host is not None or args.port is not None:
        raise ConfigError(f"say where the server is once: {positionals[0]}, or --host and --port")
    return positionals[0] if "://" in positionals[0] else f"http://{positionals[0]}"


def _check_terminal() -> None:
    if find_spec("textual") is None:
        raise ConfigError(f"kvik top draws with the package textual, which is not installed: {INSTALL}")
    if not sys.stdout.isatty():
        raise ConfigError("kvik top needs a terminal; the same numbers without one: curl SERVER/metrics")
