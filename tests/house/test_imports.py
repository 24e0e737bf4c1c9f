"""Who may import whom: the table of docs/architecture.md, held against every import statement in src/kvik."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "kvik"

SHELF = {
    "config",
    "modelfile",
    "messages",
    "step",
    "sampling_params",
    "structured_outputs",
    "plan",
    "errors",
    "telemetry",
}
FACTS = {"__version__", "FIRST_LINE_S"}
"""Constants of the package itself."""
DOORS = {"__init__", "__main__", "cli", "entrypoints", "llm"}
MAY_IMPORT: dict[str, set[str]] = {
    "server": {"text", "engine_client"},
    "text": {"grammar"},
    "grammar": set(),
    "engine_client": {"wire", "text"},
    "bench": {"text"},
    "wire": set(),
    "engine": {"scheduler", "grammar", "executor", "wire"},
    "scheduler": {"blocks", "drafting", "grammar"},
    "blocks": set(),
    "drafting": set(),
    "executor": {"runner", "parallel", "platforms"},
    "runner": {"parallel", "compilation", "models", "layers", "weights", "sampling", "kernels", "platforms"},
    "compilation": {"parallel", "models", "layers", "kernels"},
    "models": {"layers", "parallel", "weights"},
    "layers": {"kernels", "parallel", "weights"},
    "sampling": {"kernels"},
    "parallel": set(),
    "weights": set(),
    "convert": {"weights", "kernels", "platforms"},
    "kernels": set(),
    "platforms": set(),
}
IMPORTS_TORCH = {
    "executor", "runner", "parallel", "compilation", "models", "layers", "weights", "sampling", "kernels", "platforms",
    "convert",
}  # fmt: skip


def room_of(file: Path) -> str:
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_modules(file: Path) -> Iterator[tuple[str, int]]:
    """Every module that the file names in an import, at any depth, except under TYPE_CHECKING at the doors."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: relative import; write the whole path"
            assert node.module is not None
            yield node.module, node.lineno
            if node.module == "kvik":
                yield from ((f"kvik.{alias.name}", node.lineno) for alias in node.names)


FILES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(SOURCE)))
def test_file_imports_only_what_its_room_may(file: Path) -> None:
    room = room_of(file)
    for module, line in imported_modules(file):
        where = f"{file.relative_to(SOURCE)}:{line} imports {module}"
        top, _, rest = module.partition(".")
        if top == "torch":
            assert room in IMPORTS_TORCH, f"{where}: room '{room}' must not know torch"
        if top != "kvik" or not rest:
            continue
        other = rest.partition(".")[0]
        if room == "kernels":
            assert other in {"kernels", "_native"}, f"{where}: kernels know torch and the native part only"
        elif other == "_native":
            raise AssertionError(f"{where}: only kernels may")
        elif room in SHELF:
            assert other in SHELF | {room} | FACTS, f"{where}: the shelf knows no room"
        elif room in DOORS:
            assert other != "kernels", f"{where}: a door does not open kernels"
        else:
            allowed = SHELF | MAY_IMPORT[room] | {room} | FACTS
            assert other in allowed, f"{where}: room '{room}' may import {sorted(MAY_IMPORT[room])} and the shelf"


def test_every_room_has_a_line_in_the_table() -> None:
    rooms = {room_of(file) for file in FILES}
    assert rooms - SHELF - DOORS == set(MAY_IMPORT)


def modules_after(statement: str) -> set[str]:
    """Names of the modules that a fresh interpreter has loaded once it ran the statement."""
    code = f"import sys; {statement}; print(' '.join(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import kvik",
        "import kvik.messages, kvik.step, kvik.plan, kvik.config, kvik.modelfile",
        "import kvik.cli.main, kvik.cli.serve",
        "import kvik.cli.bench.serve, kvik.cli.bench.serve_prompts, kvik.cli.bench.startup",
        "import kvik.server.launcher, kvik.server.app, kvik.engine_client.async_llm",
        "import kvik.scheduler, kvik.blocks, kvik.drafting, kvik.wire.codec, kvik.wire.sockets",
    ],
)
def test_house_a_and_the_shelf_load_no_torch(statement: str) -> None:
    loaded = modules_after(statement)
    assert not loaded & {"torch", "transformers"}


def test_tracing_is_loaded_for_those_who_ask_for_it_only() -> None:
    """The web framework brings OpenTelemetry's interface along; who sends spans is another matter."""
    loaded = modules_after("import kvik.server.launcher, kvik.server.app, kvik.server.serve")
    assert not loaded & {"opentelemetry.sdk", "opentelemetry.exporter", "kvik.server.tracing.tracer"}


def test_llguidance_is_loaded_for_the_first_grammar_only() -> None:
    assert "llguidance" not in modules_after("import kvik.server.launcher, kvik.engine.core, kvik.text.processor")


def test_importing_kvik_loads_nothing_heavy() -> None:
    assert not modules_after("import kvik") & {"torch", "fastapi", "pydantic", "msgspec", "zmq", "tokenizers"}


def test_every_kernel_has_a_reference_and_a_test() -> None:
    tests = Path(__file__).parents[1] / "unit" / "kernels"
    for folder in (f for f in (SOURCE / "kernels").iterdir() if (f / "__init__.py").exists()):
        assert (folder / "reference.py").exists(), f"{folder.name} has no reference.py"
        assert (tests / f"test_{folder.name}.py").exists(), f"{folder.name} has no test"
