"""Ids of responses and of their items. Whoever knows an id may read what it names, so ids cannot be guessed."""

from __future__ import annotations

import uuid
from typing import Literal

Prefix = Literal["resp", "msg", "rs", "fc", "fco", "call"]


def new_id(prefix: Prefix) -> str:
    """122 random bits."""
    return f"{prefix}_{uuid.uuid4().hex}"
