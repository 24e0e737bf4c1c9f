"""`kvik completion SHELL`: a script that completes commands, flags and choices, made from the flags themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from kvik.cli.bench.main import COMMANDS as MEASUREMENTS
from kvik.cli.chat import ChatArgs
from kvik.cli.client import ClientArgs
from kvik.cli.convert import ConvertArgs
from kvik.cli.main import COMMANDS
from kvik.cli.plan import plan_flags
from kvik.cli.run_batch import BatchArgs
from kvik.cli.top.main import TopArgs
from kvik.config.catalog import serve_flags
from kvik.config.flags import Flag, flags_of
from kvik.errors import ConfigError

USAGE = "kvik completion bash|zsh|fish"

HOW_TO = """bash:                 source <(kvik completion bash)
zsh, after compinit:  source <(kvik completion zsh)
fish:                 kvik completion fish | source"""

Options = Mapping[str, tuple[str, ...]]
"""Flag, dashes included -> the values that it may have; empty where files are as good a guess as any."""


def run(words: Sequence[str]) -> int:
    if len(words) != 1 or words[0] not in SCRIPTS:
        if words and words[0] in ("-h", "--help"):
            print(f"usage: {USAGE}\n\n{HOW_TO}")
            return 0
        raise ConfigError(f"usage: {USAGE}; got {' '.join(words) or 'nothing'}")
    print(SCRIPTS[words[0]](_options()), end="")
    return 0


def _options() -> dict[str, Options]:
    """By command; those without flags of their own have none."""
    own: dict[str, Sequence[Flag]] = {
        "serve": serve_flags(),
        "run-batch": [*flags_of(BatchArgs), *serve_flags()],
        "chat": flags_of(ChatArgs),
        "complete": flags_of(ClientArgs),
        "plan": plan_flags(),
        "convert": flags_of(ConvertArgs),
        "top": flags_of(TopArgs),
    }
    by_command = {name: _by_name(own.get(name, ())) for name in COMMANDS}
    return by_command | {"completion": dict.fromkeys(SCRIPTS, ()), "bench": dict.fromkeys(MEASUREMENTS, ())}


def _by_name(flags: Sequence[Flag]) -> Options:
    return {"--" + f.name: tuple(f.choices) for f in flags if f.is_supported and f.name != "model-tag"}


def _bash(options: Mapping[str, Options]) -> str:
    cases = []
    for command, flags in options.items():
        values = [f'{name}) words="{" ".join(choices)}" ;;' for name, choices in flags.items() if choices]
        rest = f'*) words="{" ".join(flags)}" ;;'
        cases.append(f'    {command}) case "$before" in {" ".join([*values, rest])} esac ;;')
    return "\n".join(
        [
            "_kvik() {",
            '  local current="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" words=""',
            '  if [ "$current" = "=" ]; then current=""; fi',
            '  if [ "$before" = "=" ]; then before="${COMP_WORDS[COMP_CWORD-2]}"; fi',
            f'  if [ "$COMP_CWORD" -eq 1 ]; then words="{" ".join(options)}"; fi',
            '  case "${COMP_WORDS[1]}" in',
            *cases,
            "  esac",
            '  COMPREPLY=($(compgen -W "$words" -- "$current"))',
            "}",
            "complete -o default -F _kvik kvik",
            "",
        ]
    )


def _zsh(options: Mapping[str, Options]) -> str:
    return "autoload -U +X bashcompinit && bashcompinit\n" + _bash(options)


def _fish(options: Mapping[str, Options]) -> str:
    lines = [f"complete -c kvik -n __fish_use_subcommand -f -a '{' '.join(options)}'"]
    for command, flags in options.items():
        seen = f"complete -c kvik -n '__fish_seen_subcommand_from {command}'"
        for name, choices in flags.items():
            if not name.startswith("--"):
                lines.append(f"{seen} -f -a {name}")
            else:
                values = f" -x -a '{' '.join(choices)}'" if choices else ""
                lines.append(f"{seen} -l {name[2:]}{values}")
    return "\n".join([*lines, ""])


SCRIPTS: dict[str, Callable[[Mapping[str, Options]], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
