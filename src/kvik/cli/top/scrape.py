"""One answer of /metrics as numbers that can be asked for by name. Knows the text format and the prefixes, no meaning.

Names are asked for without their prefix: a server shows kvik's own, the field's, both, or what its operator chose.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kvik.telemetry.prefixes import DEFAULT_PREFIXES

_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+-?\d+)?")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")
_ANCHOR = "num_requests_running"
"""A metric that every server of this kind has: what stands before it is the prefix."""


@dataclass(frozen=True, slots=True)
class Sample:
    labels: Mapping[str, str]
    value: float


class Scrape:
    """Samples by name; the names of one prefix without it, all others as they are."""

    def __init__(self, samples: Mapping[str, Sequence[Sample]]) -> None:
        self._samples = samples

    def total(self, name: str, **labels: str) -> float | None:
        """Sum of the samples with these labels, or None where the server has no such metric."""
        found = [s.value for s in self._of(name, labels)]
        return sum(found) if found else None

    def highest(self, name: str) -> float | None:
        """The greatest sample, for shares that cannot be added up over engines."""
        return max((s.value for s in self._of(name, {})), default=None)

    def by_label(self, name: str, label: str) -> dict[str, float]:
        """Value of `label` -> sum of its samples, in the order of the text."""
        sums: dict[str, float] = {}
        for sample in self._of(name, {}):
            if label in sample.labels:
                sums[sample.labels[label]] = sums.get(sample.labels[label], 0.0) + sample.value
        return sums

    def buckets(self, name: str) -> dict[float, float]:
        """Upper bound -> number of observations up to it, of all label sets together; empty: no such histogram."""
        sums: dict[float, float] = defaultdict(float)
        for sample in self._of(name + "_bucket", {}):
            bound = _number(sample.labels.get("le", ""))
            if bound is not None:
                sums[bound] += sample.value
        return dict(sorted(sums.items()))

    def _of(self, name: str, labels: Mapping[str, str]) -> list[Sample]:
        return [s for s in self._samples.get(name, ()) if all(s.labels.get(k) == v for k, v in labels.items())]


def parse_scrape(text: str) -> Scrape:
    """Lines that are no sample are passed over: a server of tomorrow may write some."""
    named: dict[str, list[Sample]] = defaultdict(list)
    for line in text.split("\n"):  # a label may hold what else ends a line
        match = None if line.startswith("#") else _SAMPLE.fullmatch(line.strip(" \r"))
        value = _number(match[3]) if match else None
        if match is not None and value is not None and not math.isnan(value):
            named[match[1]].append(Sample(_labels(match[2] or ""), value))
    prefix = _prefix_of(named)
    return Scrape({name.removeprefix(prefix): samples for name, samples in _under(prefix, named).items()})


def _under(prefix: str, named: Mapping[str, list[Sample]]) -> dict[str, list[Sample]]:
    """Without what is shown again under another prefix."""
    ours = {name.removeprefix(prefix) for name in named if prefix and name.startswith(prefix)}
    return {n: s for n, s in named.items() if n.startswith(prefix) or n.rpartition(":")[2] not in ours}


def _prefix_of(named: Mapping[str, object]) -> str:
    """kvik's own before the field's before any other; "" where no name shows one."""
    for prefix in DEFAULT_PREFIXES:
        if prefix + _ANCHOR in named:
            return prefix
    return next((name.removesuffix(_ANCHOR) for name in named if name.endswith(_ANCHOR)), "")


def _labels(text: str) -> dict[str, str]:
    return {name: _ESCAPED.sub(_unescaped, value) for name, value in _LABEL.findall(text)}


def _unescaped(match: re.Match[str]) -> str:
    return "\n" if match[1] == "n" else match[1]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
