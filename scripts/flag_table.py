"""Writes docs/cli.md from the flags themselves: `python scripts/flag_table.py`. With --check it only compares."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from kvik.cli.help import default_text, status_text
from kvik.config.catalog import GROUPS, serve_flags
from kvik.config.flags import Flag

DOCUMENT = Path(__file__).parents[1] / "docs" / "cli.md"
MARK = "<!-- Below this line: written by scripts/flag_table.py. -->"


def table() -> str:
    """One Markdown table per group."""
    flags = serve_flags()
    parts = [_counts(flags)]
    for title, about in GROUPS.items():
        rows = [_row(f) for f in flags if f.group == title]
        parts.append("\n".join([f"### {title}: {about}", "", "| flag | type | default | what | status |",
                                "| --- | --- | --- | --- | --- |", *rows]))  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _counts(flags: tuple[Flag, ...]) -> str:
    supported = sum(f.is_supported for f in flags)
    ours = sum(f.is_ours for f in flags)
    return (
        f"{len(flags)} flags: {len(flags) - ours} of the interface and {ours} of kvik's own. {supported} are "
        "supported; the others are known, take their defaults, and refuse all else. A star marks the common ones."
    )


def _row(flag: Flag) -> str:
    name = "MODEL" if flag.name == "model-tag" else "--" + flag.name
    names = " ".join(f"`{n}`" for n in (name, *flag.aliases))
    kind = " / ".join(flag.choices) if 0 < len(flag.choices) <= 8 else flag.kind.replace("_", " ")
    default = f"`{text}`" if (text := default_text(flag)) else ""
    cells = ("★ " if flag.is_common else "") + names, kind, default, flag.help, status_text(flag)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def document(current: str) -> str:
    """`current` with everything below the mark written anew."""
    head, mark, _ = current.partition(MARK)
    return f"{head}{mark or MARK}\n\n{table()}"


def main() -> int:
    current = DOCUMENT.read_text(encoding="utf-8")
    new = document(current)
    if "--check" in sys.argv[1:]:
        return int(new != current)
    DOCUMENT.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
