"""What is wrong with an exposition, in the way of `promtool check metrics`: names, types, labels, buckets, order."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator

METRIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')
SUFFIXES = {
    "histogram": ("_bucket", "_sum", "_count"),
    "summary": ("_sum", "_count"),
    "counter": ("",),
    "gauge": ("",),
}
UNITS_NOT_BASE = re.compile(r"_(ms|milliseconds|minutes|kb|mb|gb|kilobytes|megabytes|percent|micros|nanoseconds)(_|$)")
MAY_LACK_A_SUFFIX = {"iteration_tokens_total"}
"""Histograms that the field has named like counters."""

Series = tuple[str, tuple[tuple[str, str], ...]]


def problems_of(text: str) -> list[str]:
    """One line per problem; empty: nothing is wrong."""
    return list(_problems(text))


def _problems(text: str) -> Iterator[str]:
    if not text.endswith("\n"):
        yield "the last line does not end"
    helps: Counter[str] = Counter()
    types: dict[str, str] = {}
    series: dict[Series, float] = {}
    family, closed = "", set()
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name, _, about = line[7:].partition(" ")
            helps[name] += 1
            if not about.strip():
                yield f"{name}: HELP says nothing"
            continue
        if line.startswith("# TYPE "):
            name, kind = line[7:].split(" ")
            if name in types:
                yield f"{name}: two TYPE lines"
            types[name] = kind
            closed.add(family)
            family = name
            continue
        sample = SAMPLE.fullmatch(line)
        if sample is None:
            yield f"cannot be read: {line}"
            continue
        name, labels, value = sample[1], _labels(sample[2] or ""), float(sample[3])
        if labels is None:
            yield f"{name}: labels cannot be read: {line}"
            continue
        if _family_of(name, types) != family:
            yield f"{name}: a sample outside of its family"
        key = (name, tuple(sorted(labels.items())))
        if len(labels) < (sample[2] or "").count('="'):
            yield f"{name}: a label twice: {line}"
        if key in series:
            yield f"{name}: a series twice: {line}"
        series[key] = value
    yield from _of_families(types, helps)
    yield from _of_values(types, series)


def _labels(text: str) -> dict[str, str] | None:
    labels, at = {}, 0
    while at < len(text):
        label = LABEL.match(text, at)
        if label is None:
            return None
        labels[label[1]], at = label[2], label.end()
    return labels


def _family_of(name: str, types: dict[str, str]) -> str | None:
    for family, kind in types.items():
        if any(name == family + suffix for suffix in SUFFIXES.get(kind, ())):
            return family
    return None


def _of_families(types: dict[str, str], helps: Counter[str]) -> Iterator[str]:
    for name, kind in types.items():
        base = name.partition(":")[2] or name
        if helps[name] != 1:
            yield f"{name}: {helps[name]} HELP lines"
        if kind not in SUFFIXES:
            yield f"{name}: no type is named {kind}"
        if not METRIC_NAME.fullmatch(name):
            yield f"{name}: not a name"
        if (kind == "counter") != name.endswith("_total") and base not in MAY_LACK_A_SUFFIX:
            yield f"{name}: counters end in _total, and nothing else does"
        if kind != "histogram" and re.search(r"_(bucket|count|sum)$", name):
            yield f"{name}: ends as a part of a histogram does"
        if UNITS_NOT_BASE.search(name):
            yield f"{name}: not in a base unit (seconds, bytes, ratio)"
        if any(kind_ in re.split("[_:]", name) for kind_ in ("gauge", "counter", "histogram", "summary")):
            yield f"{name}: tells its type"


def _of_values(types: dict[str, str], series: dict[Series, float]) -> Iterator[str]:
    histograms: dict[Series, list[tuple[float, float]]] = defaultdict(list)
    for (name, labels), value in series.items():
        reserved = [k for k, _ in labels if k.startswith("__") or (k in ("le", "quantile") and types.get(name))]
        if reserved:
            yield f"{name}: labels that are not free: {reserved}"
        if types.get(name) == "counter" and not value >= 0:
            yield f"{name}: a counter of {value}"
        if name.endswith("_bucket") and types.get(name[:-7]) == "histogram":
            bounds = [float(v) for k, v in labels if k == "le"]
            rest = tuple((k, v) for k, v in labels if k != "le")
            histograms[name[:-7], rest].append((bounds[0] if bounds else math.nan, value))
    for (name, labels), buckets in histograms.items():
        bounds, counts = [b for b, _ in buckets], [c for _, c in buckets]
        if bounds != sorted(set(bounds)) or not bounds or bounds[-1] != math.inf:
            yield f"{name}{dict(labels)}: bounds do not rise to +Inf: {bounds}"
        if counts != sorted(counts):
            yield f"{name}{dict(labels)}: buckets do not add up: {counts}"
        if series.get((name + "_count", labels)) != counts[-1]:
            yield f"{name}{dict(labels)}: _count is not that of the last bucket"
        if (name + "_sum", labels) not in series:
            yield f"{name}{dict(labels)}: no _sum"
