"""How the names of metrics begin. Each is made under kvik's own prefix, and shown under those that were asked for.

Dashboards, alerts and autoscalers exist that ask for `vllm:`; new ones should ask for `kvik:`. Knows no metric.
"""

from __future__ import annotations

import re

OWN_PREFIX = "kvik:"
"""What metrics of an engine are made with; what begins otherwise (http_*, process_*) is shown as it is."""
DEFAULT_PREFIXES = ("kvik:", "vllm:")
_PREFIX = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*[_:]")


def parse_prefixes(text: str) -> tuple[str, ...]:
    """Prefixes separated by commas, at least one, in order, each once. Raises `ValueError` saying what is wrong."""
    prefixes = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for prefix in prefixes:
        if not _PREFIX.fullmatch(prefix):
            raise ValueError(
                f"{prefix!r} cannot begin names of metrics: letters, digits, '_' and ':', no digit first, and ':' or "
                "'_' at the end, such as 'kvik:', 'vllm:' or both, separated by a comma"
            )
    return prefixes
