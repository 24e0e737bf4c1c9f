"""`python -m bench.compare`: kvik and its peers, driven by the same client in one run, alternating; one table.

Servers of a comparison are all loaded at once, but those that are not being driven stand still (SIGSTOP): none takes
time from another, and every round sees the same machine in the same minute. All on the loopback.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType

from bench.ceilings import Ceilings, measured
from bench.engines import KVIK, LLAMA, MODEL_NAME, VLLM, Contestant, Installed
from bench.roofline import bound, weight_files
from bench.table import medians, number, section
from bench.traffic import Closed, Numbers
from bench.workloads import WORKLOADS, Workload
from kvik.bench.endpoint import Endpoint
from kvik.bench.process import HOST, ServerProcess
from kvik.errors import KvikError
from kvik.modelfile import embedded_model_path
from kvik.text.tokenizer import Tokenizer

Round = dict[str, Numbers]
MACHINE = "the machine"
"""Has a row in each round, where a roofline is drawn: what it could do in that minute."""
WARM_UP = Closed(num_clients=2, num_prompts=2, input_len=64, output_len=8)


def main() -> int:
    args = _parse()
    signal.signal(signal.SIGTERM, _as_interrupt)
    installed = Installed(_programs(args), _models(args.model))
    chosen = _scaled([w for w in WORKLOADS if not args.only or w.name in args.only], args.scale)
    parts: list[str] = [_heading(installed, args.rounds)]
    results: dict[str, object] = {"machine": _machine(), "command": sys.argv}
    try:
        for workload, rounds, skipped in _measured(chosen, installed, args.rounds):
            found = medians(rounds)
            results[workload.name] = {"rounds": rounds, "medians": found, "skipped": skipped}
            machine = found.pop(MACHINE, None)
            roofs = {} if machine is None else _roofs(workload, found, installed, Ceilings(**machine))
            parts.append(section(workload, found, skipped, roofs))
            if machine is not None:
                parts[-1] += _ceilings_line(Ceilings(**machine))
            print(parts[-1], flush=True)
    finally:  # what was measured before an end of any kind is kept
        args.output.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
        args.output.with_suffix(".md").write_text("\n".join(parts))
        print(f"saved {args.output.with_suffix('.md')} and .json", file=sys.stderr)
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__)
    parser.add_argument("--model", action="append", default=[], metavar="NAME=PATH",
                        help="smollm2, llama-1b, llama-8b: folders; smollm2-gguf, llama-1b-gguf (bf16), llama-1b-q8_0, "
                        "llama-1b-q4_0: .gguf files; demo is there already")  # fmt: skip
    parser.add_argument("--llama-server", default=os.environ.get("LLAMA_SERVER"), help="path ($LLAMA_SERVER)")
    parser.add_argument("--vllm", default=os.environ.get("VLLM"), help="path of vLLM's program ($VLLM)")
    parser.add_argument("--only", nargs="+", choices=[w.name for w in WORKLOADS], help="these workloads alone")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the prompts; below 1 for a quick look")
    parser.add_argument("--output", type=Path, default=Path("compare"), help="name of the .md and .json files")
    return parser.parse_args()


def _programs(args: argparse.Namespace) -> dict[str, str]:
    found = {}
    for engine, given in ((LLAMA, args.llama_server), (VLLM, args.vllm)):
        path = shutil.which(given) if given else None
        if given and path is None:
            raise SystemExit(f"{engine}: there is no program {given}")
        if path is not None:
            found[engine] = str(Path(path).absolute())
    return found


def _models(words: Iterable[str]) -> dict[str, Path]:
    models = {"demo": embedded_model_path()}
    known = {c.model for w in WORKLOADS for c in w.contestants}
    for word in words:
        name, equals, path = word.partition("=")
        if not equals or name not in known or not Path(path).exists():
            raise SystemExit(f"--model {word}: write NAME=PATH, NAME one of {', '.join(sorted(known))}, PATH existing")
        models[name] = Path(path)
    return models


def _scaled(workloads: Sequence[Workload], scale: float) -> list[Workload]:
    """With fewer prompts, but a prompt per client at least."""
    return [
        replace(
            w, traffic=replace(w.traffic, num_prompts=max(w.traffic.num_clients, int(scale * w.traffic.num_prompts)))
        )
        if isinstance(w.traffic, Closed)
        else w
        for w in workloads
    ]


def _measured(
    workloads: Sequence[Workload], installed: Installed, num_rounds: int
) -> Iterator[tuple[Workload, list[Round], dict[str, str]]]:
    """Workload by workload; those with the same contestants share their servers."""
    waiting = list(workloads)
    with tempfile.TemporaryDirectory(prefix="kvik-compare-") as folder:
        while waiting:
            first = waiting[0]
            group = [
                w for w in waiting if w.contestants == first.contestants and bool(w.traffic) == bool(first.traffic)
            ]
            waiting = [w for w in waiting if w not in group]
            able, skipped = _able(first.contestants, installed)
            if first.traffic is None:
                for workload in group:
                    yield workload, _starts(workload, able, installed, Path(folder), num_rounds, skipped), skipped
            else:
                yield from _driven(group, able, installed, Path(folder), num_rounds, skipped)


def _able(contestants: Iterable[Contestant], installed: Installed) -> tuple[list[Contestant], dict[str, str]]:
    obstacles = {c: installed.obstacle(c) for c in contestants}
    for contestant, why in obstacles.items():
        if why is not None:
            print(f"{contestant.label}: left out, {why}", file=sys.stderr)
    return [c for c, why in obstacles.items() if why is None], {c.label: why for c, why in obstacles.items() if why}


def _starts(
    workload: Workload,
    able: Sequence[Contestant],
    installed: Installed,
    folder: Path,
    num_rounds: int,
    skipped: dict[str, str],
) -> list[Round]:
    """Each contestant started anew in each round."""
    rounds: list[Round] = []
    for number_of_round in range(num_rounds):
        figures: Round = {}
        for contestant in (c for c in able if c.label not in skipped):
            files = weight_files(installed.models[contestant.model])
            cat_s = _cat_s(files, is_cold=workload.is_cold)
            if workload.is_cold:
                _forget(files)
            try:
                with installed.server(contestant, folder) as server:
                    figures[contestant.label] = _memory(server) | {
                        "startup_s": server.seconds_to_ready,
                        "cat_s": cat_s,
                        "startup_over_cat": server.seconds_to_ready / cat_s,
                    }
            except KvikError as e:
                _leave_out(contestant, e, skipped)
            _say(number_of_round, "start", contestant, figures)
        rounds.append(figures)
    return rounds


def _driven(
    group: Sequence[Workload],
    able: Sequence[Contestant],
    installed: Installed,
    folder: Path,
    num_rounds: int,
    skipped: dict[str, str],
) -> Iterator[tuple[Workload, list[Round], dict[str, str]]]:
    """Servers of all contestants loaded; in each round each workload drives each of them once.

    Every other round goes backwards: what drifts with time, as shared machines do, favours nobody.
    """
    rounds: dict[str, list[Round]] = {w.name: [] for w in group}
    with ExitStack() as stack:
        servers = dict(_loaded(able, installed, folder, skipped, stack))
        tokenizers = {c: Tokenizer.load(installed.models[c.model]) for c in servers}
        for number_of_round in range(num_rounds):
            turns = list(servers.items())[:: -1 if number_of_round % 2 else 1]
            for workload in group:
                figures: Round = {MACHINE: asdict(measured())} if _has_roof(workload) else {}
                for contestant, server in turns:
                    with _awake(server):
                        figures[contestant.label] = _drive(workload, server, tokenizers[contestant], number_of_round)
                    _say(number_of_round, workload.name, contestant, figures)
                rounds[workload.name].append(figures)
    for workload in group:
        yield workload, rounds[workload.name], skipped


def _loaded(
    able: Sequence[Contestant], installed: Installed, folder: Path, skipped: dict[str, str], stack: ExitStack
) -> Iterator[tuple[Contestant, ServerProcess]]:
    """Start them one after the other, warm each up and let it stand. One that does not start is left out."""
    for contestant in able:
        try:
            server = stack.enter_context(installed.server(contestant, folder))
            WARM_UP.measure(_endpoint(server), Tokenizer.load(installed.models[contestant.model]), seed=-1)
        except KvikError as e:
            _leave_out(contestant, e, skipped)
            continue
        server.suspend()
        yield contestant, server


def _leave_out(contestant: Contestant, error: KvikError, skipped: dict[str, str]) -> None:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    print(f"{contestant.label}: left out\n{error}", file=sys.stderr)
    skipped[contestant.label] = f"{lines[0]} {lines[-1]}"[:300]


@contextmanager
def _awake(server: ServerProcess) -> Iterator[None]:
    server.resume()
    try:
        yield
    finally:
        server.suspend()


def _drive(workload: Workload, server: ServerProcess, tokenizer: Tokenizer, number_of_round: int) -> Numbers:
    assert workload.traffic is not None
    before = server.cpu_seconds()
    figures = workload.traffic.measure(_endpoint(server), tokenizer, seed=1000 + number_of_round)
    spent = {pid: seconds - before.get(pid, 0.0) for pid, seconds in server.cpu_seconds().items()}
    per_1000 = 1000 / max(1.0, figures["num_output_tokens"])
    figures["cpu_s_per_1000_tokens"] = sum(spent.values()) * per_1000
    if len(spent) > 1:  # the server of a single process has no API process
        figures["api_cpu_s_per_1000_tokens"] = spent.get(server.pid, 0.0) * per_1000
    return figures | _memory(server)


def _memory(server: ServerProcess) -> Numbers:
    return {
        "rss_mb": sum(server.resident_bytes().values()) / 1e6,
        "peak_rss_mb": sum(server.peak_resident_bytes().values()) / 1e6,
    }


def _endpoint(server: ServerProcess) -> Endpoint:
    return Endpoint(HOST, server.port, "/v1/completions", "openai", MODEL_NAME, sends_token_ids=True)


def _cat_s(files: Iterable[Path], *, is_cold: bool) -> float:
    """Seconds to read the files from start to end, as `cat` does; then they are in the file cache for all alike."""
    if is_cold:
        _forget(files)
    started_s = time.perf_counter()
    for file in files:
        with file.open("rb", buffering=0) as stream:
            buffer = bytearray(2**20)
            while stream.readinto(buffer):
                pass
    return time.perf_counter() - started_s


def _forget(files: Iterable[Path]) -> None:
    """Take the files out of the file cache."""
    for file in files:
        with file.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _has_roof(workload: Workload) -> bool:
    """Whether it is known how often each weight is needed: not with shared prompts or drafts."""
    return isinstance(workload.traffic, Closed) and not (workload.traffic.prefix_len or workload.traffic.quotes)


def _roofs(
    workload: Workload, found: Mapping[str, Numbers], installed: Installed, ceilings: Ceilings
) -> dict[str, str]:
    """Label -> the bound of this machine and the share of it that was reached."""
    assert isinstance(workload.traffic, Closed)
    roofs = {}
    for contestant in (c for c in workload.contestants if c.label in found):
        ms, most = bound(contestant, installed.models[contestant.model], workload.traffic, ceilings)
        figures = found[contestant.label]
        if workload.traffic.num_clients == 1:
            roofs[contestant.label] = f"{number(ms)} ms/token ({_share(ms, figures['tpot_ms'])})"
        else:
            roofs[contestant.label] = f"{number(most)} tok/s ({_share(figures['output_tok_per_s'], most)})"
    return roofs


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "-"


def _machine() -> str:
    info = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in info if "model name" in line), platform.machine())
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model}, {len(os.sched_getaffinity(0))} cores, {memory_gib:.0f} GiB"


def _heading(installed: Installed, num_rounds: int) -> str:
    engines = ", ".join([KVIK, *installed.programs])
    return (
        f"{_machine()}, Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}. Engines: {engines}. Medians "
        f"of {num_rounds} alternating rounds; in brackets times the first row.\n"
    )


def _ceilings_line(ceilings: Ceilings) -> str:
    return (
        f"\nThe machine in these minutes: {ceilings.read_gb_per_s:.1f} GB/s read, "
        f"{ceilings.bf16_gflop_per_s:.0f} GFLOP/s bf16, {ceilings.fp32_gflop_per_s:.0f} fp32.\n"
    )


def _say(number_of_round: int, what: str, contestant: Contestant, figures: Round) -> None:
    row = figures.get(contestant.label, {})
    names = ("startup_s", "output_tok_per_s", "tpot_ms", "lost")
    text = ", ".join(f"{name} {number(row[name])}" for name in names if name in row)
    print(f"round {number_of_round + 1}, {what}, {contestant.label}: {text}", file=sys.stderr, flush=True)


def _as_interrupt(signal_number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
