"""Modules that are imported when something of them is first used: a CPU's process never imports triton."""

from __future__ import annotations

import importlib
from typing import Any


class LazyModule:
    """Stands for the module of this name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)
