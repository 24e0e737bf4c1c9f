"""`kvik run-batch -i FILE -o FILE MODEL [flags]`: answers an OpenAI batch file, and goes on where it stopped."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvik.cli.batch.files import BadLine, BatchLine, ResultWriter, read_input
from kvik.cli.batch.output import OutputFiles
from kvik.cli.batch.signals import StoppedError, run_until_stopped
from kvik.cli.help import help_text
from kvik.cli.serve import serve_values
from kvik.config.catalog import GROUPS, serve_flags
from kvik.config.flags import flag, flags_of
from kvik.config.parser import Parser
from kvik.errors import ConfigError, EngineDeadError

USAGE = "kvik run-batch -i FILE -o FILE [MODEL] [flags]"


@dataclass(frozen=True, kw_only=True)
class BatchArgs:
    """What this command has beside the flags of `kvik serve`."""

    input_file: str | None = flag(None, "batch file, one JSON object a line", group="Frontend", aliases=("-i",))
    output_file: str | None = flag(
        None, "where answers are appended; lines that it answers already are not asked again", group="Frontend",
        aliases=("-o",),
    )  # fmt: skip
    output_tmp_dir: str | None = flag(
        None, "directory where answers are gathered; the output file is written once, when all are there",
        group="Frontend",
    )  # fmt: skip
    enable_metrics: bool = flag(False, "serve /metrics on --host and --port meanwhile", group="Frontend", kind="switch")


def run(words: Sequence[str]) -> int:
    """Returns 0 where every line was answered without an error, else 1."""
    flags = [*flags_of(BatchArgs), *serve_flags()]
    try:
        parsed = Parser(flags).parse(words)
        if parsed.help is not None:
            print(help_text(USAGE, flags, GROUPS, parsed.help))
            return 0
        values = serve_values(parsed, flags)
        own = {f.dest: values.pop(f.dest) for f in flags_of(BatchArgs) if f.dest in values}
        args = BatchArgs(**own)
        source, output = _paths(args)
    except ConfigError:
        print(f"usage: {USAGE}", file=sys.stderr)
        raise
    return _answer(args, source, output, values)


def _paths(args: BatchArgs) -> tuple[Path, OutputFiles]:
    for name, value in (("--input-file", args.input_file), ("--output-file", args.output_file)):
        if value is None:
            raise ConfigError(f"{name} is missing; name a file")
        if "://" in value:
            raise ConfigError(f"{name} {value}: kvik does not use the network here; name a file of this machine")
    assert args.input_file is not None
    assert args.output_file is not None
    source, target = Path(args.input_file), Path(args.output_file)
    if source.resolve() == target.resolve():
        raise ConfigError("--output-file must not be the --input-file")
    return source, OutputFiles.of(target, None if args.output_tmp_dir is None else Path(args.output_tmp_dir))


def _answer(args: BatchArgs, source: Path, output: OutputFiles, values: dict[str, Any]) -> int:
    lines, bad = read_input(source)
    done = output.done()
    left = [line for line in lines if line.custom_id not in done]
    print(f"{len(lines)} requests, {len(lines) - len(left)} of them answered before, {len(bad)} bad lines", flush=True)
    _tell_bad_lines(source, output.target.with_name(output.target.name + ".errors"), bad)
    num_errors = 0
    if left:
        with output.growing.open("a", encoding="utf-8") as file:
            try:
                num_errors = run_until_stopped(_run(args, left, ResultWriter(file), values))
            except StoppedError as stop:
                print("stopped; the same command goes on with the lines that are left", file=sys.stderr)
                return stop.code
    output.deliver()
    print(f"{len(left) - num_errors} answered, {num_errors} with an error")
    return int(bool(num_errors or bad))


def _tell_bad_lines(source: Path, errors: Path, bad: Sequence[BadLine]) -> None:
    """On stderr, and in a file of their own that says of this run only."""
    if not bad:
        errors.unlink(missing_ok=True)
        return
    with errors.open("w", encoding="utf-8") as file:
        for one in bad:
            message = f"line {one.line}: {one.message}"
            print(f"{source}: {message}", file=sys.stderr)
            ResultWriter(file).write(one.custom_id, None, {"code": "invalid_line", "message": message})


async def _run(args: BatchArgs, lines: Sequence[BatchLine], writer: ResultWriter, values: dict[str, Any]) -> int:
    from kvik.cli.batch.progress import progress
    from kvik.cli.batch.runner import run_lines
    from kvik.config.args import EngineArgs
    from kvik.config.resolve_server import server_config_of
    from kvik.engine_client.core_client import EngineCoreClient
    from kvik.server.app import build_app, init_app_state
    from kvik.server.launcher import build_async_engine_client
    from kvik.telemetry.phases import PhaseTimer
    from kvik.telemetry.prefixes import parse_prefixes
    from kvik.telemetry.registry import create_registry

    engine_args = EngineArgs.from_cli_args(values)
    model_file = engine_args.open_model()
    server_config = server_config_of(values, engine_args.generation_defaults(model_file))
    config = engine_args.create_engine_config(model_file)
    registry = create_registry(parse_prefixes(server_config.metrics_prefix))
    if args.enable_metrics:
        from prometheus_client import start_http_server

        start_http_server(server_config.port, server_config.host or "127.0.0.1", registry)
    engine = EngineCoreClient.spawn(config.observability.log_level)
    try:
        async with build_async_engine_client(
            config, server_config, engine, PhaseTimer("APIServer"), registry
        ) as client:
            app = build_app(init_app_state(client, server_config), registry)
            key = server_config.api_key[0] if server_config.api_key else None
            headers = {"authorization": f"Bearer {key}"} if key else {}
            with progress(len(lines)) as advance:
                num_errors = await run_lines(
                    app, lines, writer, max_open=2 * config.scheduler.max_num_seqs, headers=headers,
                    is_dead=lambda: client.is_dead, advance=advance,
                )  # fmt: skip
            if client.is_dead:
                raise EngineDeadError("the engine has died; run the same command again for the lines that are left")
            return num_errors
    finally:
        engine.kill()
