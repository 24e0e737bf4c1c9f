"""`python -m bench.observability [--rounds N]`: what statistics, metrics and scrapes cost, as a share of throughput.

Two servers of the same model, one with `--disable-log-stats`, take turns; who is not driven stands still. The one with
statistics is scraped meanwhile, more often than Prometheus does. Pairs change their order from round to round, and the
median of the ratios within pairs is the answer: what else the machine does falls on both of a pair.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import statistics
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from bench.engines import KVIK, Contestant, Installed
from bench.traffic import Closed
from kvik.bench.endpoint import Endpoint
from kvik.bench.process import HOST, ServerProcess
from kvik.modelfile import embedded_model_path
from kvik.text.tokenizer import Tokenizer

ON = Contestant("statistics on", KVIK, "demo", ("--no-enable-prefix-caching",))
OFF = Contestant("statistics off", KVIK, "demo", ("--no-enable-prefix-caching", "--disable-log-stats"))
SCRAPE_EVERY_S = 2.0
MOST_LOST = 0.02
WARM_UP = Closed(num_clients=4, num_prompts=4, input_len=64, output_len=16)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.observability", description=__doc__)
    parser.add_argument("--rounds", type=int, default=8, help="pairs of measurements; an even number is fairer")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--prompts", type=int, default=48, help="per measurement")
    args = parser.parse_args()
    traffic = Closed(num_clients=args.clients, num_prompts=args.prompts, input_len=64, output_len=64)
    ratios = measured(traffic, args.rounds)
    lost = 1 - statistics.median(ratios)
    low, high = 1 - max(ratios), 1 - min(ratios)
    print(f"statistics cost {lost:.2%} of throughput (pairs from {low:.2%} to {high:.2%}); bar: {MOST_LOST:.0%}")
    return 0 if lost <= MOST_LOST else 1


def measured(traffic: Closed, num_rounds: int) -> list[float]:
    """Throughput with statistics over throughput without, by pair."""
    installed = Installed({}, {"demo": embedded_model_path()})
    tokenizer = Tokenizer.load(embedded_model_path())
    ratios = []
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as running:
        servers = {c: running.enter_context(installed.server(c, Path(folder))) for c in (ON, OFF)}
        for contestant, server in servers.items():
            WARM_UP.measure(_endpoint(server), tokenizer, seed=0)
            print(f"{contestant.label}: ready", file=sys.stderr)
            server.suspend()
        for seed in range(num_rounds):
            order = (ON, OFF) if seed % 2 else (OFF, ON)
            speeds = {c: _speed(traffic, servers[c], tokenizer, seed, is_scraped=c is ON) for c in order}
            ratios.append(speeds[ON] / speeds[OFF])
            print(f"on {speeds[ON]:.1f}, off {speeds[OFF]:.1f} tok/s, ratio {ratios[-1]:.4f}", file=sys.stderr)
    return ratios


def _speed(traffic: Closed, server: ServerProcess, tokenizer: Tokenizer, seed: int, *, is_scraped: bool) -> float:
    server.resume()
    try:
        with _scraped(server.port) if is_scraped else contextlib.nullcontext():
            return traffic.measure(_endpoint(server), tokenizer, seed)["output_tok_per_s"]
    finally:
        server.suspend()


def _endpoint(server: ServerProcess) -> Endpoint:
    return Endpoint(HOST, server.port, "/v1/completions", "openai", "m", sends_token_ids=True)


@contextlib.contextmanager
def _scraped(port: int) -> Iterator[None]:
    """Somebody asks for /metrics meanwhile."""
    done = threading.Event()

    def scrape() -> None:
        while not done.wait(SCRAPE_EVERY_S):
            connection = http.client.HTTPConnection(HOST, port, timeout=30)
            connection.request("GET", "/metrics")
            connection.getresponse().read()
            connection.close()

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


if __name__ == "__main__":
    sys.exit(main())
