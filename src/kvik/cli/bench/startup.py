"""`kvik bench startup`: from launching `kvik serve` to its first 200, cold and warm, and where the time goes.

Cold: the checkpoint's files have been dropped from the file cache. Each start is a process of its own on a free port.
"""

from __future__ import annotations

import http.client
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvik import __version__
from kvik.bench.metrics import percentile
from kvik.bench.process import HOST, ServerProcess, free_port
from kvik.bench.progress import Progress
from kvik.cli.bench.flags import check_json_path, read_flags_with_engine, write_json
from kvik.config import env
from kvik.config.flags import flag
from kvik.errors import ConfigError, KvikError
from kvik.messages import Phase
from kvik.telemetry.phase_table import bar_of
from kvik.telemetry.timeline import covered_s

USAGE = "kvik bench startup [MODEL] [flags], or: kvik bench startup --compare A.json B.json"
PERCENTS = (10, 25, 50, 75, 90, 99)
_BAR_WIDTH = 30


@dataclass(frozen=True, kw_only=True)
class StartupArgs:
    """How many starts of each kind."""

    num_iters_cold: int = flag(3, "starts with the checkpoint dropped from the file cache")
    num_iters_warmup: int = flag(1, "starts before the warm ones, not counted")
    num_iters_warm: int = flag(3, "starts with the checkpoint in the file cache")
    num_iters: int | None = flag(None, "in place of both counts", ours=True)
    disable_tqdm: bool = flag(False, "no progress bar", kind="switch")
    output_json: str | None = flag(None, "write the numbers to this file")
    compare: tuple[str, ...] = flag((), "show two such files beside each other, and start nothing", ours=True)


@dataclass(frozen=True)
class Start:
    """One start, seconds."""

    seconds: float
    """From launching the command until it was seen to be ready."""
    phases: Mapping[str, tuple[float, float]]
    """"process: phase" -> when it began, since the process began, and how long it took; phases overlap."""
    explained_s: float = 0.0
    """In which at least one phase was in progress."""


def run(words: Sequence[str]) -> int:
    asked = read_flags_with_engine(StartupArgs, words, USAGE)
    if asked is None:
        return 0
    args = asked.own
    check(args, words)
    if args.compare:
        first, second = (read_result(path) for path in args.compare)
        print(comparison(first, second, args.compare))
        return 0
    passed_on = engine_words(words)
    files = checkpoint_files(asked.engine)
    num_cold = args.num_iters_cold if args.num_iters is None else args.num_iters
    num_warm = args.num_iters_warm if args.num_iters is None else args.num_iters
    with Progress(num_cold + args.num_iters_warmup + num_warm, not args.disable_tqdm) as bar:
        cold = [_start(passed_on, files, bar) for _ in range(num_cold)]
        warm = [_start(passed_on, [], bar) for _ in range(args.num_iters_warmup + num_warm)][args.num_iters_warmup :]
    result = {
        "kvik_version": __version__, "flags": passed_on, **result_fields("cold", cold), **result_fields("warm", warm)
    }  # fmt: skip
    print(summary(result))
    if args.output_json is not None:
        write_json(args.output_json, result)
    return 0


def check(args: StartupArgs, words: Sequence[str]) -> None:
    """Raises `ConfigError`."""
    counts = (args.num_iters_cold, args.num_iters_warmup, args.num_iters_warm, args.num_iters or 0)
    if min(counts) < 0 or args.num_iters == 0 or not (args.num_iters or args.num_iters_cold or args.num_iters_warm):
        raise ConfigError("--num-iters... must not be negative, and at least one start must be counted")
    if args.compare and len(args.compare) != 2:
        raise ConfigError(f"--compare takes two files, got {len(args.compare)}")
    check_json_path(args.output_json, "--output-json")


def engine_words(words: Sequence[str]) -> list[str]:
    """The command line without this command's own flags: what `kvik serve` is started with."""
    own = {"--num-iters-cold", "--num-iters-warmup", "--num-iters-warm", "--num-iters", "--output-json"}
    kept: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, _ = word.partition("=")
        name = name.replace("_", "-")
        if name in own:
            del rest[: 0 if equals else 1]
        elif name != "--disable-tqdm":
            kept.append(word)
    return kept


def checkpoint_files(engine: Mapping[str, Any]) -> list[Path]:
    """What a start reads of the checkpoint."""
    from kvik.modelfile import embedded_model_path

    path = Path(str(engine["model"])).expanduser() if engine.get("model") else embedded_model_path()
    return [path] if path.is_file() else sorted(f for f in path.glob("*") if f.is_file())


def drop_from_cache(files: Iterable[Path]) -> None:
    """Forget the files' pages, as far as the system lets us; nobody else may have them mapped."""
    for file in files:
        with file.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _start(words: Sequence[str], cold_files: Sequence[Path], bar: Progress) -> Start:
    port = free_port()
    command = [sys.executable, "-m", "kvik", "serve", *words, "--host", HOST, "--port", str(port)]
    drop_from_cache(cold_files)
    with tempfile.TemporaryDirectory(prefix="kvik-bench-") as folder:
        log = Path(folder) / "server.log"
        # What starts took is remembered for estimates: those of a benchmark are not the user's.
        with ServerProcess(command, port, log, env={"KVIK_CACHE_ROOT": folder}) as server:
            start = start_of(server.seconds_to_ready, startup_report(port))
    bar.advance()
    return start


def startup_report(port: int) -> dict[str, Any]:
    """What GET /startup tells. Raises `KvikError`."""
    key = env.api_key()
    connection = http.client.HTTPConnection(HOST, port, timeout=10.0)
    try:
        connection.request("GET", "/startup", headers={"Authorization": f"Bearer {key}"} if key else {})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise KvikError(f"GET /startup of the server was answered with {answer.status}")
        report: dict[str, Any] = json.loads(body)
        return report
    except (OSError, http.client.HTTPException, ValueError) as e:
        raise KvikError(f"GET /startup of the server failed: {e}") from None
    finally:
        connection.close()


def start_of(seconds: float, report: Mapping[str, Any]) -> Start:
    """From the body of GET /startup. Of phases with the same name the last one counts."""
    phases = [Phase(p["name"], p["process"], p["start_s"], p["end_s"]) for p in report["phases"]]
    spans = {f"{p.process}: {p.name}": (p.start_s, p.seconds) for p in phases if p.end_s is not None}
    return Start(seconds, spans, covered_s(phases))


def result_fields(kind: str, starts: Sequence[Start]) -> dict[str, Any]:
    """Keys of the JSON file for cold or for warm starts; none where there were none."""
    if not starts:
        return {}
    seconds = [s.seconds for s in starts]
    return {
        f"avg_{kind}_startup_time": statistics.fmean(seconds),
        f"{kind}_startup_times": seconds,
        f"{kind}_startup_percentiles": {str(p): percentile(sorted(seconds), p) for p in PERCENTS},
        f"{kind}_phase_begins": _medians(starts, 0),
        f"{kind}_phases": _medians(starts, 1),
        f"{kind}_explained": statistics.median(s.explained_s / s.seconds for s in starts),
    }


def _medians(starts: Sequence[Start], which: int) -> dict[str, float]:
    """Of each phase's beginnings (0) or durations (1), over the starts that had it; the first to begin is first."""
    names = dict.fromkeys(name for s in starts for name in s.phases)
    begins = {name: statistics.median(s.phases[name][0] for s in starts if name in s.phases) for name in names}
    return {
        name: statistics.median(s.phases[name][which] for s in starts if name in s.phases)
        for name in sorted(names, key=lambda name: begins[name])
    }


def summary(result: Mapping[str, Any]) -> str:
    """Per kind of start its time, and its phases with a bar each."""
    lines = []
    for kind in (k for k in ("cold", "warm") if f"{k}_startup_times" in result):
        times = result[f"{kind}_startup_times"]
        total_s = statistics.median(times)
        lines.append(
            f"{kind}: launch to ready {total_s:.2f} s (median of {len(times)}; {min(times):.2f} to {max(times):.2f} s; "
            f"phases explain {100 * result[f'{kind}_explained']:.0f}%)"
        )
        begins = result[f"{kind}_phase_begins"]
        width = max(map(len, begins), default=0)
        lines += [
            f"  {name:<{width}} {seconds:>8.3f} s  {bar_of(begins[name], seconds, total_s, _BAR_WIDTH)}"
            for name, seconds in result[f"{kind}_phases"].items()
        ]
    return "\n".join(lines)


def read_result(path: str) -> dict[str, Any]:
    """Raises `KvikError` for what is no result of this command."""
    try:
        result = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise KvikError(f"cannot read {path}: {e}") from None
    if not isinstance(result, dict) or not {"cold_startup_times", "warm_startup_times"} & result.keys():
        raise KvikError(f"{path} is no result of kvik bench startup --output-json")
    return result


def comparison(first: Mapping[str, Any], second: Mapping[str, Any], names: Sequence[str]) -> str:
    """Medians of both, the second less the first and over it, line by line; a dash where one has no such phase."""
    lines = [f"{'':<46} {'first':>9} {'second':>9} {'change':>9} {'ratio':>7}"]
    for kind in ("cold", "warm"):
        times = [_median(r.get(f"{kind}_startup_times")) for r in (first, second)]
        pairs: list[tuple[str, float | None, float | None]] = [("launch to ready", times[0], times[1])]
        if None not in times:
            phases = [r.get(f"{kind}_phases", {}) for r in (first, second)]
            pairs += [(f"  {name}", phases[0].get(name), phases[1].get(name)) for name in {**phases[0], **phases[1]}]
        lines += [_compared(f"{kind} {name}", a, b) for name, a, b in pairs if a is not None or b is not None]
    if first.get("flags") != second.get("flags"):
        lines += [f"the flags differ: {_words(first)}, then {_words(second)}"]
    return "\n".join([*lines, f"first: {names[0]}", f"second: {names[1]}"])


def _words(result: Mapping[str, Any]) -> str:
    return " ".join(map(str, result.get("flags") or ())) or "none"


def _median(values: Sequence[float] | None) -> float | None:
    return statistics.median(values) if values else None


def _compared(name: str, first: float | None, second: float | None) -> str:
    cells = ["-" if value is None else f"{value:.3f} s" for value in (first, second)]
    change = ratio = "-"
    if first is not None and second is not None:
        change = f"{second - first:+.3f} s"
        ratio = f"{second / first:.2f}" if first > 0 else "-"
    return f"{name:<46} {cells[0]:>9} {cells[1]:>9} {change:>9} {ratio:>7}"
