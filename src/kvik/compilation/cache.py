"""Where compiled graphs are kept on disk, so that a second start compiles nothing."""

from __future__ import annotations

import os
from pathlib import Path

from kvik.config import env

_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


def cache_folder(asked: str) -> Path:
    """`asked`, else what the environment says to inductor, else below the cache root."""
    if asked:
        return Path(asked).expanduser()
    given = os.environ.get(_VARIABLE, "")
    return Path(given) if given else env.cache_root() / "torch_compile"


def direct_caches(asked: str) -> None:
    """Have inductor keep its graphs there, in this process and those that it starts. Raises OSError."""
    folder = cache_folder(asked)
    folder.mkdir(parents=True, exist_ok=True)
    os.environ[_VARIABLE] = str(folder)
