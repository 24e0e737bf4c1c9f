"""The `kvik` command, which writes its asyncio tasks into the file that KVIK_TASKS_FILE names, on SIGUSR2."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from kvik.cli.main import main


def _tell(number: int, frame: FrameType | None) -> None:
    place = Path(os.environ["KVIK_TASKS_FILE"])
    names = sorted(str(task.get_coro()) for task in asyncio.all_tasks())
    draft = place.with_suffix(".draft")
    draft.write_text(json.dumps(names))
    draft.rename(place)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR2, _tell)
    sys.exit(main())
