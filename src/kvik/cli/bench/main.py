"""`kvik bench serve | latency | throughput | startup`: finds the measurement. Measures nothing itself."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from kvik.errors import ConfigError

COMMANDS: dict[str, tuple[str, str]] = {
    "serve": ("kvik.cli.bench.serve", "load on a running server: throughput and latencies as clients see them"),
    "latency": ("kvik.cli.bench.latency", "one batch of fixed shape through the engine, again and again"),
    "throughput": ("kvik.cli.bench.throughput", "many prompts through the engine at once, no server"),
    "startup": ("kvik.cli.bench.startup", "from launching a server to its first answer, cold and warm"),
}
"""Name -> module, and what it measures."""


def run(words: Sequence[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(_help())
        return 0 if words else 2
    if words[0] not in COMMANDS:
        raise ConfigError(f"unknown measurement {words[0]}; there are {', '.join(COMMANDS)}")
    code: int = import_module(COMMANDS[words[0]][0]).run(words[1:])
    return code


def _help() -> str:
    lines = [f"  {name:<12} {about}" for name, (_, about) in COMMANDS.items()]
    return "\n".join(["usage: kvik bench COMMAND ...", "", *lines, "", "kvik bench COMMAND --help says more"])
