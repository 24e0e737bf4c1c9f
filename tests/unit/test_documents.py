"""The reader of pages finds what is there, and calls nothing a command that is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import documents
from support.documents import anchors, blocks, commands, links, without_comment

PAGE = """# A `page` of *two*

    make serve

Text with a [link](other.md#here), ![a picture](a.png) and `[none](in-code.md)`.

```bash
# a remark
kvik plan X   # what it's for
curl http://x -d '{
  "a": 1
}'

kvik serve \\
    --port 1
```

    {"no": "command"}

- a list
    that goes on, which is no block

## A `page` of *two*
"""


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(documents, "ROOT", tmp_path)
    path = tmp_path / "page.md"
    path.write_text(PAGE)
    return path


def test_blocks_know_where_they_are_and_what_they_are_for(page: Path) -> None:
    assert [(b.place, b.language) for b in blocks(page)] == [
        ("page.md:3", "bash"),
        ("page.md:8", "bash"),
        ("page.md:18", ""),
    ]


def test_commands_go_on_over_lines(page: Path) -> None:
    assert commands(blocks(page)[1]) == [
        "kvik plan X   # what it's for",
        "curl http://x -d '{\n  \"a\": 1\n}'",
        "kvik serve \\\n    --port 1",
    ]


def test_a_command_that_does_not_end_is_told(page: Path) -> None:
    page.write_text("```bash\necho 'open\n```\n")
    with pytest.raises(AssertionError, match=r"page\.md:2: this command does not end"):
        commands(blocks(page)[0])


@pytest.mark.parametrize(
    ("command", "expected"),
    [("a --b   # or: c", "a --b"), ("a '# b'", "a '# b'"), ("a#b", "a#b"), ("a 'x'  # y", "a 'x'")],
)
def test_comments_are_taken_off(command: str, expected: str) -> None:
    assert without_comment(command) == expected


def test_links_and_anchors(page: Path) -> None:
    assert links(page) == ["other.md#here", "a.png"]
    assert anchors(page) == {"a-page-of-two", "a-page-of-two_1"}
