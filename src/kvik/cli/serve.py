"""`kvik serve [MODEL] [flags]`: the flags become an `EngineConfig` and a `ServerConfig`; the server does the rest."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kvik import FIRST_LINE_S, __version__
from kvik.cli.help import help_text
from kvik.config.args import AsyncEngineArgs
from kvik.config.catalog import GROUPS, serve_flags
from kvik.config.flags import Flag
from kvik.config.not_yet import refuse_unsupported
from kvik.config.parser import Parsed, Parser
from kvik.errors import ConfigError

if TYPE_CHECKING:
    from kvik.messages import Phase

USAGE = "kvik serve [MODEL] [flags]"
API_SERVER_USAGE = "python -m kvik.entrypoints.openai.api_server [MODEL] [flags]"
SECRETS = ("api_key", "hf_token")


def run(words: Sequence[str]) -> int:
    """`kvik serve`. Returns the exit code once the server has ended."""
    return _run(words, USAGE, model_is_positional=True)


def run_api_server(words: Sequence[str]) -> int:
    """The same under the module's name, where --model is the usual way to name the model."""
    return _run(words, API_SERVER_USAGE, model_is_positional=False)


def _run(words: Sequence[str], usage: str, model_is_positional: bool) -> int:
    flags = serve_flags()
    try:
        parsed = Parser(flags).parse(words)
        if parsed.help is not None:
            print(help_text(usage, flags, GROUPS, parsed.help))
            return 0
        values = serve_values(parsed, flags)
    except ConfigError:
        print(f"usage: {usage}", file=sys.stderr)
        raise
    if model_is_positional and "model" in parsed.values:
        parsed.warnings.append("name the model without a flag: kvik serve MODEL; --model is for other doors")
    _serve(values, parsed.warnings, flags, time.monotonic())
    return 0


def serve_values(parsed: Parsed, flags: Iterable[Flag]) -> dict[str, Any]:
    """Values of a command line and its config file, by `Flag.dest`.

    Raises `ConfigError`, or `NotSupportedYetError` for what kvik does not have yet.
    """
    if len(parsed.positionals) > 1:
        raise ConfigError(f"one MODEL, please; got {', '.join(parsed.positionals)}")
    if parsed.positionals:
        parsed.values["model_tag"] = parsed.positionals[0]
    values = _with_config_file(parsed, flags)
    if values.get("model") and values.get("model_tag", values["model"]) != values["model"]:
        parsed.warnings.append(f"--model {values['model']} gives way to the MODEL {values['model_tag']}")
    refuse_unsupported(values, flags)
    return values


def _with_config_file(parsed: Parsed, flags: Iterable[Flag]) -> dict[str, Any]:
    path = parsed.values.pop("config", None)
    if path is None:
        return parsed.values
    from kvik.config.file import read_config_file, under_command_line

    return under_command_line(read_config_file(path, flags), parsed)


def _serve(values: Mapping[str, Any], warnings: Iterable[str], flags: Iterable[Flag], parsed_s: float) -> None:
    """`parsed_s`: when the flags had been read, for the record of the start."""
    # Imported here: msgspec, the checkpoint readers and the server are not needed for help and for mistakes.
    from kvik.config import env
    from kvik.config.resolve_server import server_config_of
    from kvik.telemetry.log import configure_logging, get_logger

    configure_logging("APIServer", values.get("log_level") or env.logging_level() or "INFO")
    logger = get_logger(__name__)
    for warning in warnings:
        logger.warning(warning)
    logger.info("kvik API server version %s", __version__)
    logger.info("non-default args: %s", non_default_args(values, flags))

    args = AsyncEngineArgs.from_cli_args(values)
    model_file = args.open_model()
    server_config = server_config_of(values, args.generation_defaults(model_file))
    engine_config = args.create_engine_config(model_file)
    from kvik.server.launcher import run_server

    run_server(engine_config, server_config, earlier_phases(parsed_s))


def earlier_phases(parsed_s: float) -> list[Phase]:
    """What this process has done before it could time it."""
    from kvik.messages import Phase
    from kvik.telemetry.phases import PhaseTimer

    timer = PhaseTimer("APIServer")
    timer.add_interpreter(FIRST_LINE_S)
    timer.add(Phase("arguments", timer.process, FIRST_LINE_S, parsed_s))
    timer.add(Phase("config", timer.process, parsed_s, time.monotonic()))
    return timer.phases


def non_default_args(values: Mapping[str, Any], flags: Iterable[Flag]) -> dict[str, Any]:
    """The values that differ from their defaults, with secrets struck out, for the log."""
    changed = {f.dest: values[f.dest] for f in flags if f.dest in values and values[f.dest] != f.default}
    return {dest: "***" if dest in SECRETS else value for dest, value in changed.items()}
