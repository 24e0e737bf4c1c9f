"""`kvik convert MODEL --quantization int8|int4 --output DIR`: quantise once, and start from the smaller files after.

Knows flags and a progress line; room convert does the work.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kvik.cli.help import help_text
from kvik.config.flags import Flag, flag, flags_of
from kvik.config.parser import Parser
from kvik.errors import ConfigError
from kvik.modelfile import open_model

USAGE = "kvik convert MODEL --quantization int8|int4 --output DIR [--force]"
HELP = Flag("help", "str", None, "this text", "", aliases=("-h",))


@dataclass(frozen=True, kw_only=True)
class ConvertArgs:
    quantization: str = flag(
        "", "8 or 4 bits and a scale for each 32 weights of the linear layers", aliases=("-q",),
        choices=("int8", "int4"),
    )  # fmt: skip
    output: str = flag("", "folder to make; it appears when it is complete", aliases=("-o",))
    force: bool = flag(False, "replace the folder that is there", kind="switch")


def run(words: Sequence[str]) -> int:
    flags = [HELP, *flags_of(ConvertArgs)]
    parsed = Parser(flags).parse(words)
    if parsed.help is not None:
        print(help_text(USAGE, flags, {}, parsed.help))
        return 0
    args = ConvertArgs(**parsed.values)
    if len(parsed.positionals) != 1 or not args.quantization or not args.output:
        raise ConfigError(f"kvik convert wants one model, --quantization and --output: {USAGE}")
    _convert(parsed.positionals[0], args)
    return 0


def _convert(model: str, args: ConvertArgs) -> None:
    from kvik.convert import convert_folder  # here, as it brings torch

    model_file = open_model(model)
    output = Path(args.output).expanduser()
    num_bytes = convert_folder(model_file, args.quantization, output, force=args.force, on_shard=_show)
    print(f"wrote {output}: {num_bytes / 2**30:.2f} GiB of weights as {args.quantization}")


def _show(name: str, num_done: int, num_shards: int) -> None:
    """One line on a terminal, one per shard elsewhere."""
    is_terminal = sys.stderr.isatty()
    width = 30 * num_done // num_shards
    text = f"Converting [{'#' * width}{'.' * (30 - width)}] {num_done}/{num_shards} shards: {name}"
    ending = "\n" if num_done == num_shards or not is_terminal else ""
    print(f"\r{text}" if is_terminal else text, end=ending, file=sys.stderr, flush=True)
