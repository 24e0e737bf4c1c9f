"""Rules that a reader of the source may rely on, each checked as naively as possible."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "src" / "kvik").rglob("*.py"))
FORBIDDEN_MODULES = {"pickle", "cloudpickle", "marshal", "shelve", "dill"}
FORBIDDEN_CALLS = {"eval", "exec", "__import__"}


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_no_pickle_and_no_eval(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        assert not {n.partition(".")[0] for n in names} & FORBIDDEN_MODULES, f"{file}:{node.lineno}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in FORBIDDEN_CALLS, f"{file}:{node.lineno} calls {node.func.id}"


@pytest.mark.parametrize("file", [f for f in FILES if f.read_text().strip()], ids=lambda f: str(f.relative_to(ROOT)))
def test_every_file_says_what_it_is(file: Path) -> None:
    assert ast.get_docstring(ast.parse(file.read_text())), f"{file} has no docstring at its top"


def test_the_floor_plan_in_the_docs_names_every_room() -> None:
    plan = (ROOT / "docs" / "architecture.md").read_text()
    for folder in (f for f in (ROOT / "src" / "kvik").iterdir() if (f / "__init__.py").exists()):
        assert f"  {folder.name}/" in plan or f" {folder.name}/" in plan, f"{folder.name} is not in the floor plan"


CLIENTS = {"urllib.request", "http.client", "requests", "httpx", "aiohttp", "ftplib", "huggingface_hub", "urllib3"}
MAY_ASK_SERVERS = {"cli", "bench"}
"""Rooms of commands that are clients of a server: their user names it."""


@pytest.mark.parametrize(
    "file",
    [f for f in FILES if f.relative_to(ROOT / "src" / "kvik").parts[0] not in MAY_ASK_SERVERS],
    ids=lambda f: str(f.relative_to(ROOT)),
)
def test_nothing_that_serves_fetches(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        assert not CLIENTS & {name for n in names for name in (n, n.partition(".")[0])}, f"{file}:{node.lineno}"


WALL_CLOCKS = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today", "date.today"}
TELLS_THE_DATE = {
    "server/responses_api/answer.py", "server/completions/serving.py", "server/chat/prepare.py", "server/state.py",
    "server/generative_scoring.py", "server/tracing/tracer.py", "telemetry/lora_metrics.py", "text/sandbox.py",
}  # fmt: skip
"""Who says when something was made, for people to read. All else counts seconds that no setting of the clock moves."""


def wall_clocks_of(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            name = ".".join(ast.unparse(node).split(".")[-2:])
            found += [name] if name in WALL_CLOCKS else []
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            found += [f"time.{alias.name}" for alias in node.names if f"time.{alias.name}" in WALL_CLOCKS]
    return found


def test_only_who_tells_the_date_reads_the_wall_clock() -> None:
    readers = {
        f.relative_to(ROOT / "src" / "kvik").as_posix() for f in FILES if wall_clocks_of(ast.parse(f.read_text()))
    }
    serving = {name for name in readers if name.split("/")[0] not in MAY_ASK_SERVERS}
    assert serving == TELLS_THE_DATE


def test_wall_clocks_are_seen_however_they_are_written() -> None:
    for text in ("time.time()", "f(clock=time.time)", "datetime.datetime.now()", "from time import time"):
        assert wall_clocks_of(ast.parse(text)), text
    assert not wall_clocks_of(ast.parse("time.monotonic(); datetime.fromisoformat(x); self.now()"))
