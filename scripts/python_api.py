"""Writes docs/python-api.md from the source: signatures, fields and docstrings of what `import kvik` offers.

`python scripts/python_api.py`; with --check it only compares. Reads the source as text: nothing is imported.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "python-api.md"
CLASSES = (
    ("LLM", "llm/llm.py", "LLM"),
    ("SamplingParams", "sampling_params.py", "SamplingParams"),
    ("RepetitionDetection", "sampling_params.py", "RepetitionDetection"),
    ("BeamSearchParams", "sampling_params.py", "BeamSearchParams"),
    ("StructuredOutputsParams", "structured_outputs.py", "StructuredOutputs"),
    ("LoRARequest", "messages.py", "LoraRequest"),
    ("RequestOutput", "text/outputs.py", "RequestOutput"),
    ("CompletionOutput", "text/outputs.py", "CompletionOutput"),
    ("Logprob", "text/outputs.py", "Logprob"),
    ("BeamSearchOutput", "llm/beams.py", "BeamSearchOutput"),
    ("BeamSearchSequence", "llm/beams.py", "BeamSearchSequence"),
)
"""The name that callers use, the file below src/kvik, the class in it."""
HEAD = """# The Python API

<!-- Written by scripts/python_api.py from the docstrings. -->

`from kvik import LLM, SamplingParams, BeamSearchParams, StructuredOutputsParams, LoRARequest`; outputs come from their
methods. How they are used: [offline](offline.md). Errors that are meant for the caller are
`kvik.errors.KvikError`s.
"""


def document() -> str:
    return "\n".join([HEAD, *(_of_class(*one) for one in CLASSES)])


def _of_class(shown: str, path: str, name: str) -> str:
    node = _find(path, name)
    parts = [f"## {shown}", _text(node)]
    if fields := list(_fields(node)):
        parts.append("\n".join(["| field | default | what |", "| --- | --- | --- |", *fields]))
    parts += [_method(shown, one) for one in node.body if isinstance(one, ast.FunctionDef) and _is_shown(one)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _find(path: str, name: str) -> ast.ClassDef:
    tree = ast.parse((ROOT / "src" / "kvik" / path).read_text(encoding="utf-8"))
    return next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)


def _fields(node: ast.ClassDef) -> Iterator[str]:
    """A row per annotated name; the string below one says what it is."""
    for field, after in zip(node.body, [*node.body[1:], None], strict=True):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        said = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
        default = f"`{ast.unparse(field.value)}`" if field.value is not None else ""
        cells = (f"`{field.target.id}: {ast.unparse(field.annotation)}`", default, " ".join(str(said).split()))
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _is_shown(function: ast.FunctionDef) -> bool:
    """Public, and said what it is; what only refuses is of no use."""
    is_public = not function.name.startswith("_") and bool(_text(function))
    return function.name == "__init__" or (is_public and not _only_refuses(function))


def _only_refuses(function: ast.FunctionDef) -> bool:
    return any(isinstance(statement, ast.Raise) for statement in function.body)


def _method(shown: str, function: ast.FunctionDef) -> str:
    name = shown if function.name == "__init__" else function.name
    is_property = any(isinstance(d, ast.Name) and d.id == "property" for d in function.decorator_list)
    returns = f" -> {ast.unparse(function.returns)}" if function.returns and name != shown else ""
    signature = f"{name}{returns}" if is_property else f"{name}({_arguments(function.args)}){returns}"
    return f"```text\n{signature}\n```\n\n{_text(function)}".rstrip()


def _arguments(arguments: ast.arguments) -> str:
    """One per line, without `self`."""
    shown = ast.unparse(arguments).removeprefix("self").removeprefix(", ")
    return shown if len(shown) < 80 else "\n    " + ",\n    ".join(_split(shown)) + "\n"


def _split(arguments: str) -> list[str]:
    """At the commas that stand in no bracket."""
    parts, depth = [""], 0
    for character in arguments:
        depth += (character in "[(") - (character in "])")
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def _text(node: ast.ClassDef | ast.FunctionDef) -> str:
    return ast.get_docstring(node) or ""


def main() -> int:
    if "--check" in sys.argv[1:]:
        return int(DOCUMENT.read_text(encoding="utf-8") != document())
    DOCUMENT.write_text(document(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
