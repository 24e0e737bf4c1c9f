"""The flags against a table of the interface that was written down on its own."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kvik.config.access import AccessConfig
from kvik.config.admission import AdmissionConfig
from kvik.config.args import AsyncEngineArgs
from kvik.config.catalog import GROUPS, serve_flags
from kvik.config.connections import ConnectionConfig
from kvik.config.flags import Flag, flags_of
from kvik.config.frontend import ServerConfig
from kvik.config.limits import RequestLimits
from kvik.config.not_yet import NOT_YET
from kvik.config.recovery import RecoveryConfig

TABLE = Path(__file__).with_name("interface_flags.tsv")
OTHER_DEFAULTS = {"model": None, "shutdown-timeout": 30}
"""Where kvik differs on purpose: an embedded model, and a server that drains."""


class Row(NamedTuple):
    group: str
    star: str
    name: str
    aliases: str
    default: str
    type: str


ROWS = [Row(*line.split("\t")) for line in TABLE.read_text().splitlines()[1:]]
FLAGS = {f.name: f for f in serve_flags()}


def test_the_table_is_whole() -> None:
    assert len(ROWS) == 318
    assert sum(row.star == "*" for row in ROWS) == 62


@pytest.mark.parametrize("row", ROWS, ids=lambda r: r.name)
def test_flag_is_known_as_the_interface_has_it(row: Row) -> None:
    flag = FLAGS[row.name]
    assert flag.group == row.group
    assert flag.is_common == (row.star == "*")
    aliases = "-O" if row.name == "optimization-level" else row.aliases if row.aliases != "-" else ""
    assert " ".join(flag.aliases) == aliases
    expected = OTHER_DEFAULTS.get(row.name, default_of(row))
    assert flag.default == expected


def default_of(row: Row) -> Any:
    """The default as the table writes it, as a value of the flag's type."""
    if row.name == "help":
        return None
    if row.type == "bool":
        return {"on": True, "off": False, "auto": None}[row.default]
    if row.default == "unset":
        return () if row.name in ("api-key", "lora-modules", "served-model-name") else None
    if row.default in ("[]", "empty"):
        return ()
    if row.default in ("defaults", "{}"):
        return {}
    if row.default.startswith("["):
        return tuple(row.default.strip("[]").replace("'", "").split(", "))
    if row.type in ("int", "int (k/K)") or row.type.startswith("1/8"):
        return int(row.default)
    if row.type == "float":
        return float(row.default)
    return "" if row.default == '""' else row.default


def test_only_our_own_flags_are_not_in_the_table() -> None:
    assert {f.name for f in FLAGS.values() if f.is_ours} == FLAGS.keys() - {row.name for row in ROWS}


def test_no_name_and_no_alias_is_taken_twice() -> None:
    spellings = [s for f in serve_flags() for s in (f"--{f.name}", *f.aliases)]
    assert len(spellings) == len(set(spellings))


def test_every_flag_has_help_and_a_known_group() -> None:
    assert all(f.help and f.group in GROUPS for f in FLAGS.values())


def test_every_supported_flag_is_a_field_and_no_other_is() -> None:
    configs = (
        ServerConfig, RequestLimits, AdmissionConfig, ConnectionConfig, RecoveryConfig, AccessConfig, AsyncEngineArgs
    )  # fmt: skip
    own = {f.name for config in configs for f in fields(config)}
    assert not {f.dest for f in NOT_YET} & own
    supported = {f.dest for f in FLAGS.values() if f.is_supported}
    assert supported - own == {"model_tag", "help", "config"}


def test_defaults_are_of_their_flags_kind() -> None:
    types: dict[str, tuple[type, ...]] = {
        "bool": (bool,), "switch": (bool,), "int": (int,), "size": (int,), "size_or_auto": (int,),
        "float_or_auto": (int, float),
        "float": (float, int), "str": (str,), "list": (tuple,), "int_list": (tuple,), "json_list": (tuple,),
        "json": (dict,), "json_or_str": (dict, str),
    }  # fmt: skip

    def fits(flag: Flag) -> bool:
        return flag.default is None or isinstance(flag.default, types[flag.kind])

    assert [f.name for f in FLAGS.values() if not fits(f)] == []
    assert all(f.default in f.choices for f in FLAGS.values() if f.choices and f.default is not None)


def test_flags_are_made_of_fields() -> None:
    port = next(f for f in flags_of(ServerConfig, "Frontend") if f.name == "port")
    assert (port.kind, port.default, port.group, port.dest) == ("int", 8000, "Frontend", "port")


def test_reading_the_flags_imports_nothing_heavy() -> None:
    code = "import sys, kvik.cli.serve; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "msgspec", "yaml", "fastapi", "prometheus_client", "asyncio", "argparse"} & set(
        modules
    )
