"""Folders that clients may name, and only below the roots that the operator named. Knows no adapter and no HTTP.

Links are followed before anything is compared, those of the files inside of the folder too, and what is handed on is
the real path. Whoever may write below a root is trusted: links that change after the look are not seen.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from kvik.errors import InvalidRequestError


def confine(path: str, roots: Sequence[str], files: Sequence[str]) -> str:
    """The real path of the folder `path`, if it and its `files` lie below one of `roots`; without roots, `path` itself.

    Raises `InvalidRequestError`, the same whether there is such a folder or not. Reads no file.
    """
    if not roots:
        return path
    real_roots = [Path(os.path.realpath(root)) for root in roots]
    try:
        folder = Path(os.path.realpath(path))
        inside = [folder, *(Path(os.path.realpath(folder / name)) for name in files)]
    except (OSError, ValueError):
        raise _refused() from None
    if not all(any(part.is_relative_to(root) for root in real_roots) for part in inside):
        raise _refused()
    return str(folder)


def _refused() -> InvalidRequestError:
    return InvalidRequestError(
        "lora_path lies outside of the folders that this server loads adapters from (--allowed-lora-path)",
        param="lora_path",
    )
