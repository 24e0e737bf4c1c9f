"""The pages of docs/ and the README as tests read them: blocks of code, shell commands, links, headings.

Reads Markdown as these pages use it (fences, indented blocks, inline links); knows nothing of what the pages say.
"""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", *sorted(DOCS.glob("*.md")))
PROGRAMS = ("kvik", ".venv/bin/kvik", "python", "pip", "make", "curl", "source", "git", "docker", "systemctl", "sudo")
"""What the first line of an indented block begins with where the block is for a shell; a fence says so itself."""
_FENCE = re.compile(r"^\s*```(\w*)\s*$")
_LINK = re.compile(r"\[[^\]\[]+\]\(([^)\s]+)\)")
_ANY_CODE = re.compile(r"^\s*```.*?^\s*```\s*?$|`[^`\n]+`", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A block of code. `language` is empty where the page names none; `line` counts from 1."""

    page: str
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[Block]:
    lines = page.read_text(encoding="utf-8").splitlines()
    found, i = [], 0
    while i < len(lines):
        if fence := _FENCE.match(lines[i]):
            end = next(j for j in range(i + 1, len(lines)) if lines[j].strip() == "```")
            found.append(Block(name_of(page), i + 2, fence[1], "\n".join(lines[i + 1 : end])))
            i = end + 1
        elif lines[i].startswith("    ") and not (i and lines[i - 1].strip()):
            end = _end_of_indented(lines, i)
            text = "\n".join(line[4:] for line in lines[i:end])
            found.append(Block(name_of(page), i + 1, "bash" if _is_for_a_shell(text) else "", text))
            i = end
        else:
            i += 1
    return found


def _end_of_indented(lines: list[str], start: int) -> int:
    end = start
    while end < len(lines) and lines[end].startswith("    "):
        end += 1
    return end


def _is_for_a_shell(text: str) -> bool:
    return text.split(maxsplit=1)[0] in PROGRAMS


def commands(block: Block) -> list[str]:
    """The commands of a block for a shell, each as it stands there; a quote or a backslash carries on to more lines."""
    found, current = [], ""
    for line in block.text.splitlines():
        current = f"{current}\n{line}" if current else line
        if not line.strip() or _is_open(current):
            continue
        if not current.lstrip().startswith("#"):
            found.append(current)
        current = ""
    assert not current.strip(), f"{block.place}: this command does not end: {current!r}"
    return found


def _is_open(command: str) -> bool:
    if command.endswith("\\"):
        return True
    try:
        shlex.split(command, comments=True)
    except ValueError:
        return True
    return False


def without_comment(command: str) -> str:
    """A command without what its last line says behind a `#`."""
    return re.sub(r"\s+#\s[^\"']*$", "", command)


def links(page: Path) -> list[str]:
    """The targets of all links and pictures; what stands in code is none."""
    return _LINK.findall(_ANY_CODE.sub("", page.read_text(encoding="utf-8")))


def anchors(page: Path) -> set[str]:
    """The anchors of all headings, as the site makes them: the second of two equal ones has `_1`."""
    text = _ANY_CODE.sub(
        lambda code: "" if code[0].lstrip().startswith("```") else code[0].strip("`"), page.read_text()
    )
    seen: Counter[str] = Counter()
    found = set()
    for heading in re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE):
        slug = slug_of(heading)
        found.add(f"{slug}_{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def slug_of(heading: str) -> str:
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    ascii_only = unicodedata.normalize("NFKD", plain).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", ascii_only).strip().lower())
