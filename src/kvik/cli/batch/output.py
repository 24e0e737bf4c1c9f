"""Where the answers of a batch are written: into the output file as they come, or into a directory until all are there.

Knows lines by their custom_id and nothing of what they say.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from kvik.cli.batch.files import read_done
from kvik.errors import ConfigError


@dataclass(frozen=True, slots=True)
class OutputFiles:
    """`growing` is `target` itself without a directory for what is not complete."""

    target: Path
    growing: Path
    """Answers are appended here."""

    @classmethod
    def of(cls, target: Path, directory: Path | None) -> OutputFiles:
        """Raises `ConfigError` where `directory` is none.

        The growing file's name is the target's and a digest of its place: the same command finds it again, and others
        with the same directory have files of their own.
        """
        if directory is None:
            return cls(target, target)
        if not directory.is_dir():
            raise ConfigError(f"--output-tmp-dir {directory} is no directory; make it, or name one that is there")
        place = hashlib.sha256(os.fsencode(target.resolve())).hexdigest()[:12]
        return cls(target, directory / f"{target.name}.{place}.part")

    def done(self) -> set[str]:
        """custom_ids that were answered by earlier runs. Raises `ConfigError` for a file of something else."""
        return read_done(self.target) | read_done(self.growing)

    def deliver(self) -> None:
        """Put what has grown behind what the target holds, all at once: nobody ever sees a part of it.

        Stopped at any moment, the next run does it again, and no answer comes twice.
        """
        if self.growing == self.target or not self.growing.exists():
            return
        before = read_done(self.target)
        whole = self.target.read_bytes() if before else b""
        for line in self.growing.read_bytes().splitlines(keepends=True):
            if str(json.loads(line)["custom_id"]) not in before:
                whole += line
        _replace(self.target, whole)
        self.growing.unlink()


def _replace(path: Path, content: bytes) -> None:
    """The new file is on disk before it takes the old one's name."""
    new = path.with_name(path.name + ".new")
    with new.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
