"""docs/cli.md says what the flags say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_documented_flags_are_the_flags() -> None:
    command = [sys.executable, "scripts/flag_table.py", "--check"]
    assert subprocess.run(command, cwd=ROOT).returncode == 0, "run `python scripts/flag_table.py`"


def test_a_flag_is_missed_where_it_is_not_documented(tmp_path: Path) -> None:
    script = (ROOT / "scripts" / "flag_table.py").read_text().replace("parents[1]", "parents[0]", 2)
    (tmp_path / "docs").mkdir()
    (tmp_path / "src").symlink_to(ROOT / "src")
    text = (ROOT / "docs" / "cli.md").read_text()
    (tmp_path / "docs" / "cli.md").write_text(text.replace("--max-num-seqs", "--max-nums"))
    (tmp_path / "flag_table.py").write_text(script)
    command = [sys.executable, "flag_table.py", "--check"]
    assert subprocess.run(command, cwd=tmp_path).returncode == 1
