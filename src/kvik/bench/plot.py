"""A picture of one run: latency over time, latency by percentile, tokens per second. Knows answers, not servers.

matplotlib is imported here only, when a picture is asked for; kvik does not depend on it otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvik.bench.answer import Answer
from kvik.bench.metrics import latencies_s, percentile
from kvik.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INSTALL = "pip install matplotlib"
FORMATS = (".png", ".svg", ".pdf")
COLOURS = {"ttft": "#3b6fb6", "tpot": "#2a9d6f", "itl": "#d08a1d", "e2el": "#8a4fa8"}
LOST, GRID, INK = "#c23b3b", "#e3e5ea", "#3a3f4b"
BESIDE = {"itl": "tpot", "tpot": "itl"}
"""Curves that run along each other."""
MARKS = (50, 90, 99)
STYLE: Mapping[str, Any] = {
    "axes.edgecolor": "#b7bcc7", "axes.labelcolor": INK, "axes.titlecolor": INK, "axes.titlesize": 11,
    "axes.labelsize": 9, "xtick.color": INK, "ytick.color": INK, "xtick.labelsize": 8, "ytick.labelsize": 8,
    "font.family": "sans-serif", "legend.frameon": False, "legend.fontsize": 8,
}  # fmt: skip


def check_plot(path: Path) -> None:
    """Before anything runs. Raises `ConfigError` where matplotlib is missing or the file cannot be a picture."""
    if find_spec("matplotlib") is None:
        raise ConfigError(f"--plot needs matplotlib, which is not installed: {INSTALL} (or: pip install 'kvik[bench]')")
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"--plot {path}: the name must end in {', '.join(FORMATS)}")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"--plot {path}: there is no folder {path.absolute().parent}")


def draw(path: Path, answers: Sequence[Answer], title: str, subtitle: str) -> None:
    """Write the picture of a run."""
    import matplotlib
    from matplotlib.figure import Figure

    good = [a for a in answers if a.is_success]
    start_s = min((a.sent_s for a in answers), default=0.0)
    with matplotlib.rc_context(dict(STYLE)):
        figure = Figure(figsize=(12, 7.6), dpi=130, layout="constrained")
        figure.suptitle(f"{title}\n", fontsize=13, color=INK, x=0.01, ha="left", fontweight="bold")
        figure.text(0.01, 0.945, subtitle, fontsize=9, color="#6b7280", va="center")
        (first, gaps), (tokens, percents) = figure.subplots(2, 2)
        _first_tokens(first, answers, start_s)
        _gaps(gaps, good, start_s)
        _tokens(tokens, good, start_s)
        _percentiles(percents, good)
        figure.savefig(path)


def _panel(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, loc="left", fontweight="bold", pad=8)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _first_tokens(axes: Axes, answers: Sequence[Answer], start_s: float) -> None:
    _panel(axes, "Time to first token, by when the request was sent", "seconds since the start", "milliseconds")
    good = [a for a in answers if a.is_success]
    times, values = [a.sent_s - start_s for a in good], [1e3 * a.ttft_s for a in good]
    axes.scatter(times, values, s=16, color=COLOURS["ttft"], alpha=0.65, linewidths=0, label=f"{len(good)} requests")
    if lost := [a.sent_s - start_s for a in answers if not a.is_success]:
        axes.scatter(lost, [0.0] * len(lost), s=32, color=LOST, marker="x", label=f"{len(lost)} lost", clip_on=False)
    _mark_levels(axes, values, COLOURS["ttft"])
    axes.set_ylim(bottom=0)
    axes.legend(loc="best")


def _gaps(axes: Axes, good: Sequence[Answer], start_s: float) -> None:
    _panel(axes, "Time between tokens, by when the later one came", "seconds since the start", "milliseconds")
    points = [(at - start_s, 1e3 * gap) for a in good for at, gap in _arrivals(a)[1:]]
    axes.scatter([t for t, _ in points], [g for _, g in points], s=4, color=COLOURS["itl"], alpha=0.3, linewidths=0)
    values = [g for _, g in points]
    _mark_levels(axes, values, COLOURS["itl"])
    if values and min(values) > 0 and max(values) > 20 * percentile(sorted(values), 50):
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)


def _mark_levels(axes: Axes, values: Sequence[float], colour: str) -> None:
    """Lines at the median and the 99th percentile, with their values at the right edge."""
    for percent, dashes in ((50, "-"), (99, "--")) if values else ():
        level = percentile(sorted(values), percent)
        axes.axhline(level, color=colour, linewidth=1, linestyle=dashes, alpha=0.8)
        axes.annotate(f"p{percent} {_short(level)}", (1, level), xycoords=("axes fraction", "data"), xytext=(3, 0),
                      textcoords="offset points", va="center", fontsize=8, color=colour)  # fmt: skip


def _tokens(axes: Axes, good: Sequence[Answer], start_s: float) -> None:
    _panel(axes, "Generated tokens per second, and requests that ran", "seconds since the start", "tokens / s")
    end_s = max((a.sent_s + a.latency_s for a in good), default=start_s) - start_s
    width_s = max(end_s / 60, 0.1)
    edges = [i * width_s for i in range(int(end_s / width_s) + 2)]
    counts, running = [0.0] * len(edges), [0] * len(edges)
    for answer in good:
        share = answer.num_output_tokens / (len(answer.itl_s) + 1)
        for at, _ in _arrivals(answer):
            counts[min(int((at - start_s) / width_s), len(edges) - 1)] += share
        begin_s = answer.sent_s - start_s
        for i, edge_s in enumerate(edges):  # as it is in the middle of each step
            running[i] += begin_s <= edge_s + width_s / 2 < begin_s + answer.latency_s
    rates = [count / width_s for count in counts]
    axes.fill_between(edges, rates, step="post", color=COLOURS["tpot"], alpha=0.35, linewidth=0)
    axes.step(edges, rates, where="post", color=COLOURS["tpot"], linewidth=1.2, label="tokens / s")
    axes.set_ylim(bottom=0)
    other = axes.twinx()
    other.step(edges, running, where="post", color="#7a8190", linewidth=1.2, linestyle="--")
    other.set_ylabel("requests (dashed)")
    other.set_ylim(0, 1.25 * max(running, default=1) + 0.5)
    other.spines[["top"]].set_visible(False)


def _percentiles(axes: Axes, good: Sequence[Answer]) -> None:
    """Each latency over its percentiles. The axis is stretched towards 100, where the slow requests are."""
    _panel(axes, "Latency by percentile", "percent of the values that are lower", "milliseconds")
    axes.set_yscale("log")
    floors, tops = [], []
    curves = {name: sorted(1e3 * v for v in values) for name, values in latencies_s(good).items()}
    for name, ordered in curves.items():
        if ordered and ordered[-1] > 0:
            _curve(axes, name, ordered, curves[BESIDE[name]] if name in BESIDE else [])
            floors.append(max(percentile(ordered, 5), ordered[-1] / 1e4))
            tops.append(ordered[-1])
    if floors:
        axes.set_ylim(0.5 * min(floors), 4 * max(tops))
        axes.legend(loc="upper left", ncols=4)
    for percent in MARKS:
        axes.axvline(_stretch(percent), color="#b7bcc7", linewidth=0.8, linestyle=":")
    ticks = [0, *MARKS, 99.9]
    axes.set_xticks([_stretch(p) for p in ticks], [f"p{p:g}" for p in ticks])


def _curve(axes: Axes, name: str, ordered: Sequence[float], beside: Sequence[float]) -> None:
    """One latency's percentiles, milliseconds; those of `MARKS` with their values, on the side away from `beside`."""
    percents = [p / 2 for p in range(198)] + [99 + p / 20 for p in range(20)]
    levels = [max(percentile(ordered, p), 1e-3) for p in percents]
    axes.plot([_stretch(p) for p in percents], levels, color=COLOURS[name], linewidth=1.6, label=name.upper())
    for percent in MARKS:
        level = percentile(ordered, percent)
        is_lower = bool(beside) and (level, name) < (percentile(beside, percent), BESIDE[name])
        axes.plot([_stretch(percent)], [level], "o", color=COLOURS[name], markersize=4)
        axes.annotate(_short(level), (_stretch(percent), level), xytext=(0, -12 if is_lower else 6),
                      textcoords="offset points", ha="center", fontsize=7.5, color=COLOURS[name])  # fmt: skip


def _stretch(percent: float) -> float:
    """Place of a percentile on the axis: each tenfold fewer slower values takes as much room."""
    return -math.log10(1 - min(percent, 99.95) / 100)


def _arrivals(answer: Answer) -> list[tuple[float, float]]:
    """(clock time, seconds since the chunk before) of each chunk; the first one's gap is the TTFT."""
    at, result = answer.sent_s, []
    for gap in (answer.ttft_s, *answer.itl_s):
        at += gap
        result.append((at, gap))
    return result


def _short(ms: float) -> str:
    return f"{ms:.0f} ms" if ms >= 100 else f"{ms:.1f} ms"
