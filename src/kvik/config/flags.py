"""What a command-line flag is, and how a dataclass field says that it is one. Knows no flag and parses nothing.

A field made with `flag(...)` is the one place that holds a flag's name, type, default, help and group:
`max_num_seqs: int | None = flag(None, "...")` is `--max-num-seqs`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, Literal

Kind = Literal[
    "bool",  # --x and --no-x; --x=true and --x=false too
    "switch",  # --x only
    "int",
    "size",  # an integer that may carry a suffix: 1k, 25.6k, 1K
    "memory",  # bytes with a unit: 24GiB, 512M
    "size_or_auto",  # the same, or "auto"; auto and -1 are one value
    "float",
    "float_or_auto",  # a number, or "auto"; auto and -1 are one value
    "str",
    "list",  # one or more words
    "int_list",
    "json",  # a JSON value, or --x.key value
    "json_or_str",
    "json_list",  # a JSON list of words
]

KIND_OF_ANNOTATION: dict[str, Kind] = {
    "bool": "bool",
    "int": "int",
    "float": "float",
    "str": "str",
    "tuple[str, ...]": "list",
    "dict[str, Any]": "json",
}
JSON_KINDS = frozenset({"json", "json_or_str", "json_list"})
LIST_KINDS = frozenset({"list", "int_list"})
BOOL_KINDS = frozenset({"bool", "switch"})


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag of the command line."""

    name: str
    """With dashes, without the leading two: "max-model-len"."""
    kind: Kind
    default: Any
    help: str
    group: str
    is_common: bool = False
    """One of the flags that most people meet; marked with a star."""
    choices: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    """Other spellings, dashes included: "-tp"."""
    accepts: tuple[Any, ...] | None = None
    """None: the flag is supported. Otherwise kvik does not have its feature yet, and takes nothing but the default
    and these values, which ask for what is so anyway."""
    is_ours: bool = False
    """The interface that we keep compatible with does not have it."""

    @property
    def is_supported(self) -> bool:
        return self.accepts is None

    @property
    def dest(self) -> str:
        """The field that holds its value."""
        return self.name.replace("-", "_")


def flag(
    default: Any,
    help: str,
    *,
    group: str = "",
    kind: Kind | None = None,
    choices: tuple[str, ...] = (),
    aliases: tuple[str, ...] = (),
    common: bool = False,
    ours: bool = False,
) -> Any:
    """A dataclass field that is a flag. `kind` is needed only where the annotation does not tell it."""
    metadata = {
        "flag": {
            "help": help, "group": group, "kind": kind, "choices": choices, "aliases": aliases,
            "is_common": common, "is_ours": ours,
        }
    }  # fmt: skip
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def flags_of(cls: type[Any], group: str = "") -> list[Flag]:
    """The flags of a dataclass, in the order of its fields; `group` is for those that name none."""
    return [_flag_of(f, group) for f in fields(cls) if "flag" in f.metadata]


def _flag_of(f: Field[Any], group: str) -> Flag:
    about: Mapping[str, Any] = f.metadata["flag"]
    annotation = str(f.type).removesuffix(" | None")
    default = f.default_factory() if f.default_factory is not MISSING else f.default
    return Flag(
        name=f.name.replace("_", "-"),
        kind=about["kind"] or KIND_OF_ANNOTATION[annotation],
        default=default,
        help=about["help"],
        group=about["group"] or group,
        is_common=about["is_common"],
        choices=about["choices"],
        aliases=about["aliases"],
        is_ours=about["is_ours"],
    )
