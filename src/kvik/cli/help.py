"""Help for a list of flags: the common ones, a group, a word, or all. Prints nothing itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from kvik.config.flags import BOOL_KINDS, JSON_KINDS, LIST_KINDS, Flag
from kvik.errors import ConfigError

_WORDS = {
    "int": "N",
    "size": "N",
    "memory": "SIZE",
    "size_or_auto": "N|auto",
    "float_or_auto": "X|auto",
    "float": "X",
    "str": "TEXT",
    "list": "TEXT",
    "int_list": "N",
}


def help_text(usage: str, flags: Sequence[Flag], groups: Mapping[str, str], topic: str) -> str:
    """Help on `topic`: "" for the common flags and the groups, "all", a group's title, or a part of flags' names.

    Where there are no groups, every topic is help on all flags.
    Raises `ConfigError` where no flag answers to the topic.
    """
    lines = [f"usage: {usage}"]
    if not groups:
        lines += _section("", flags)
    elif not topic:
        lines += _section("common flags", [f for f in flags if f.is_common and f.is_supported])
        lines += _group_list(flags, groups)
    elif topic.lower() == "all":
        for title in groups:
            lines += _section(title, [f for f in flags if f.group == title])
    else:
        lines += _section("", _matching(flags, groups, topic))
    return "\n".join(lines)


def _matching(flags: Iterable[Flag], groups: Mapping[str, str], topic: str) -> list[Flag]:
    title = next((t for t in groups if t.lower() == topic.lower()), None)
    word = topic.lower().lstrip("-").replace("_", "-")
    chosen = [f for f in flags if (f.group == title if title else word in f.name)]
    if not chosen:
        raise ConfigError(
            f"--help={topic}: no group and no flag has that in its name; the groups are {', '.join(groups)}"
        )
    return chosen


def _group_list(flags: Sequence[Flag], groups: Mapping[str, str]) -> list[str]:
    counts = {title: sum(f.group == title for f in flags) for title in groups}
    lines = [f"  {title:<24} {counts[title]:>3}  {about}" for title, about in groups.items()]
    return ["", "groups, for --help=GROUP (also --help=all, and --help=WORD for a part of a name):", *lines]


def _section(title: str, flags: Iterable[Flag]) -> list[str]:
    lines = ["", f"{title}:"] if title else [""]
    for flag in flags:
        lines += [f"  {spelling(flag)}", f"      {flag.help}{_remarks(flag)}"]
    return lines


def spelling(flag: Flag) -> str:
    """How a flag is written, with its aliases and what it takes: "--tensor-parallel-size, -tp N"."""
    name = "MODEL" if flag.name == "model-tag" else f"--{flag.name}"
    names = ", ".join([name, *flag.aliases])
    if flag.kind == "bool":
        return f"{names}, --no-{flag.name}"
    return f"{names} {_value_word(flag)}".rstrip() if flag.name not in ("model-tag", "help") else names


def _value_word(flag: Flag) -> str:
    if flag.kind in BOOL_KINDS:
        return ""
    if flag.choices and len(flag.choices) <= 8:
        return "{" + ",".join(flag.choices) + "}"
    if flag.kind in JSON_KINDS:
        return "JSON"
    return _WORDS[flag.kind] + (" ..." if flag.kind in LIST_KINDS else "")


def default_text(flag: Flag) -> str:
    """The default as one would write it; "" where the flag is unset by default."""
    if flag.default in (None, "", (), {}):
        return ""
    if isinstance(flag.default, bool):
        return "on" if flag.default else "off"
    if isinstance(flag.default, tuple):
        return " ".join(map(str, flag.default))
    return str(flag.default)


def status_text(flag: Flag) -> str:
    """Whether kvik has what the flag asks for."""
    if flag.accepts is None:
        return "supported"
    values = [str(v).lower() if isinstance(v, bool) else str(v) for v in flag.accepts]
    return "not supported yet" + (f", but {', '.join(values)} is accepted" if values else "")


def _remarks(flag: Flag) -> str:
    default = default_text(flag)
    remarks = [f"default: {default}"] if default else []
    remarks += [] if flag.is_supported else [status_text(flag)]
    return f" ({'; '.join(remarks)})" if remarks else ""
